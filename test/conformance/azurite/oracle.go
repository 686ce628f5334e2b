package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure/tables"
)

const (
	// version of Azurite: the last that Node 20 runs.
	version = "3.35.0"
	// account and key are the ones that emulators document; they protect nothing.
	account = "devstoreaccount1"
	key     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
	// startTime is how long Azurite may take to listen.
	startTime = time.Minute
)

// errNoNode says that there is nothing here to run Azurite with.
var errNoNode = errors.New("node and npm are not both installed")

// install puts Azurite below dir, unless it is there, and gives its program.
func install(ctx context.Context, dir string) (string, error) {
	program := filepath.Join(dir, "node_modules", "azurite", "dist", "src", "table", "main.js")
	if _, err := exec.LookPath("node"); err != nil {
		return "", errNoNode
	}
	if installed(dir) {
		return program, nil
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", errNoNode
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	// Without a package.json npm would install into a folder further up.
	if err := os.WriteFile(filepath.Join(dir, "package.json"), []byte("{\"private\":true}\n"), 0o644); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--save-exact", "azurite@"+version)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm install azurite@%s: %w\n%s", version, err, out)
	}
	if !installed(dir) {
		return "", fmt.Errorf("npm did not install azurite@%s into %s", version, dir)
	}
	return program, nil
}

func installed(dir string) bool {
	b, err := os.ReadFile(filepath.Join(dir, "node_modules", "azurite", "package.json"))
	var manifest struct{ Version string }
	return err == nil && json.Unmarshal(b, &manifest) == nil && manifest.Version == version
}

// startAzurite runs the program on a free port until the context ends or stop,
// which waits for its end.
func startAzurite(ctx context.Context, program string) (e *endpoint, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, "node", program, "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry",
		"--silent", "--tableHost", "127.0.0.1", "--tablePort", strconv.Itoa(port))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &out, time.Second
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, nil, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed, or its output tells why it ended
		close(ended)
	}()
	stop = func() {
		cancel()
		<-ended
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if err := listening(ctx, address, ended); err != nil {
		stop()
		return nil, nil, fmt.Errorf("azurite: %w\n%s", err, strings.TrimSpace(out.String()))
	}
	return newEndpoint("Azurite", "http://"+address), stop, nil
}

func listening(ctx context.Context, address string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ended:
			return errors.New("it ended by itself")
		case <-ctx.Done():
			return fmt.Errorf("it does not listen: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// startOurs serves the stand-in on a free port until stop.
func startOurs() (e *endpoint, stop func(), err error) {
	s, err := tables.New(tables.Config{Account: account, Key: key})
	if err != nil {
		return nil, nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	web := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = web.Serve(l) }() // until it is closed
	return newEndpoint("ours", "http://"+l.Addr().String()), func() { _ = web.Close() }, nil
}
