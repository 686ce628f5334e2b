// Command nothing is a custom handler that does nothing but answer: what any
// handler in Go costs before it does a thing. The bench measures ours beside it.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	addr := net.JoinHostPort("127.0.0.1", os.Getenv("FUNCTIONS_CUSTOMHANDLER_PORT"))
	err := http.ListenAndServe(addr, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	fmt.Fprintln(os.Stderr, "nothing:", err)
	os.Exit(1)
}
