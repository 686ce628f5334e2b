package functionshost

import (
	"os"
	"syscall"
)

func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

// killGroup kills the handler alone: Windows has no process groups to kill.
func killGroup(pid int) {
	if p, err := os.FindProcess(pid); err == nil {
		_ = p.Kill()
	}
}

func endSignal(*os.ProcessState) (int, bool) { return 0, false }

func isENOTDIR(error) bool { return false }
