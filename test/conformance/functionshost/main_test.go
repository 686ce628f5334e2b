// Package functionshost holds the Functions host stand-in against what is known
// of the real one. Every row is a fact with its source; the host runs with a
// real handler process, over real sockets, and with the Service Bus stand-in
// where a queue is concerned.
//
// Sources begin with a mark: S, read in the source of the host or of an
// extension; R, recorded from a real host; D, Microsoft's documentation; G, an
// issue; I, inferred.
package functionshost

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"testing"
)

// fact is one thing that the real host is known to do.
type fact struct {
	name, source string
	test         func(t *testing.T)
}

// hold runs the facts side by side and says where each is from.
func hold(t *testing.T, facts []fact) {
	for _, f := range facts {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			t.Log("source: " + f.source)
			f.test(t)
		})
	}
}

// controlVar makes the test binary a custom handler that asks the URL in it
// what to do, at its start and for each request.
const controlVar = "CONFORMANCE_CONTROL"

func TestMain(m *testing.M) {
	if url := os.Getenv(controlVar); url != "" {
		if err := handle(url); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// event is what the handler tells of its start, of a signal, or of a request.
type event struct {
	Kind                      string // start, signal or request
	Pid                       int
	Env, Args                 []string
	Dir                       string
	Method, Path, Query, Host string
	Header                    http.Header
	Body                      []byte
	Chunked                   bool
}

// order is what the handler is to do. Without one it listens, and answers {}.
type order struct {
	Stdout, Stderr string
	Exit           *int
	Deaf           bool // at the start: never listen
	Answer         *answer
}

// answer is one to a request. An empty ContentType sends none.
type answer struct {
	Status      int
	ContentType string
	Header      map[string]string
	Body        string
}

// handle is the custom handler.
func handle(control string) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	go func() {
		<-signals
		_, _ = ask(control, event{Kind: "signal"})
	}()
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	o, err := ask(control, event{Kind: "start", Env: os.Environ(), Args: os.Args[1:], Dir: dir})
	if err != nil {
		return err
	}
	o.obey()
	if o.Deaf {
		select {}
	}
	return http.ListenAndServe("127.0.0.1:"+os.Getenv("FUNCTIONS_CUSTOMHANDLER_PORT"), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the host went away
		}
		o, err := ask(control, event{Kind: "request", Method: r.Method, Path: r.URL.EscapedPath(), Query: r.URL.RawQuery, Host: r.Host,
			Header: r.Header, Body: body, Chunked: len(r.TransferEncoding) > 0})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		o.obey()
		o.Answer.write(w)
	}))
}

func (o order) obey() {
	fmt.Print(o.Stdout)
	fmt.Fprint(os.Stderr, o.Stderr)
	if o.Exit != nil {
		os.Exit(*o.Exit)
	}
}

func (a *answer) write(w http.ResponseWriter) {
	if a == nil {
		a = &answer{Status: 200, ContentType: "application/json", Body: "{}"}
	}
	w.Header()["Content-Type"] = nil // none is guessed
	if a.ContentType != "" {
		w.Header().Set("Content-Type", a.ContentType)
	}
	for name, value := range a.Header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(a.Status)
	_, _ = io.WriteString(w, a.Body)
}

func ask(control string, e event) (order, error) {
	e.Pid = os.Getpid()
	body, err := json.Marshal(e)
	if err != nil {
		return order{}, err
	}
	response, err := http.Post(control, "application/json", bytes.NewReader(body))
	if err != nil {
		return order{}, err
	}
	defer response.Body.Close()
	var o order
	return o, json.NewDecoder(response.Body).Decode(&o)
}
