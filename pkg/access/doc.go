// Package access is the domain of Portcullis: who asks for which port of which
// virtual machine, from where and for how long, and what became of it.
//
// It knows nothing of Azure's SDKs, of tables, queues or HTTP, reads no clock
// and no environment, and imports the standard library alone. Everything else
// depends on it; it depends on nothing of ours.
package access
