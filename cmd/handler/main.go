// Command handler is the custom handler that the Functions host runs.
package main

import (
	"context"
	"log/slog"
	"os"
	"runtime/debug"
	"time"
	_ "time/tzdata" // conditions name zones, and an image may have none

	"github.com/portcullis-access/portcullis/pkg/config"
	"github.com/portcullis-access/portcullis/pkg/customhandler"
	"github.com/portcullis-access/portcullis/pkg/telemetry"
)

// collectAt lets the heap grow to three times what lives before it is collected,
// not to twice: in a burst that takes an eighth off the processor's time, for some
// 15 MiB (docs/performance.md). What the start leaves behind is collected before.
const collectAt = 200

func main() {
	log := slog.New(telemetry.LogHandler(customhandler.LogHandler(slog.NewJSONHandler(os.Stdout, nil))))
	cfg, err := config.Load(os.LookupEnv, config.All)
	if err == nil {
		var app *App
		if app, err = NewApp(context.Background(), cfg, config.NewSecrets(os.LookupEnv), time.Now, log); err == nil {
			if _, set := os.LookupEnv("GOGC"); !set {
				debug.SetGCPercent(collectAt)
			}
			err = app.Serve()
		}
	}
	// The host keeps calling the dead port of a handler that exits with 0, so it
	// never does; anything else makes the host start it again.
	log.Error("the handler cannot go on", "error", err)
	os.Exit(1)
}
