module github.com/exuvia/exuvia/guest-sdk/go

go 1.27
