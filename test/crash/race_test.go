//go:build race

package crash

// racing says that the race detector watches.
const racing = true
