package functionshost

import "syscall"

// childAttributes gives the handler a process group of its own, so that its
// children can be killed with it, and has the kernel kill it when the host dies
// without a chance to do so.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
