// Package sdk_test drives the real muster binary over real sockets with the clients that people already have:
// AWS SDKs for Go, Python and JavaScript, the AWS CLI, and curl. Nothing here knows what is inside the server.
//
// A client that is not on the machine is skipped with a word on how to install it; with MUSTER_REQUIRE_CLIENTS=1
// it fails instead.
package sdk_test

import (
	"testing"

	"muster/test/process"
)

func TestMain(m *testing.M) { process.Main(m) }
