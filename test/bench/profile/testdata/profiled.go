package main

import "github.com/portcullis-access/portcullis/test/bench/profile"

// An overlay puts this file beside cmd/handler's own in the build that is
// profiled, and in no other.
var _ = profile.Serve()
