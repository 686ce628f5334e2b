//go:build unix && !linux

package functionshost

import "syscall"

// childAttributes gives the handler a process group of its own, so that its
// children can be killed with it.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
