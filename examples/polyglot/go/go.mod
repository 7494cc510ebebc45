module station

go 1.27

require github.com/exuvia/exuvia/guest-sdk/go v0.0.0

replace github.com/exuvia/exuvia/guest-sdk/go => ../../../guest-sdk/go
