//go:build unix

package functionshost

import (
	"errors"
	"os"
	"syscall"
)

// killGroup kills every process of the group that pid leads; that there is none
// any more is no error.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

// endSignal is the signal that ended the process, if one did.
func endSignal(state *os.ProcessState) (int, bool) {
	status, ok := state.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return 0, false
	}
	return int(status.Signal()), true
}

func isENOTDIR(err error) bool { return errors.Is(err, syscall.ENOTDIR) }
