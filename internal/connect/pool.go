package connect

import (
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// idleConnections is how many connections to the table service are kept for the
// next call. The host calls the handler up to 32 times at once for each queue
// (host.json), and a request makes some of its calls side by side.
const idleConnections = 128

// pooled is the SDK's own transport (sdk/internal/transport) but for the number of
// connections that it keeps: with its 10, a burst makes new ones all the time, and a
// handshake costs more than a call. What must be made anew resumes a
// session. The table service speaks HTTP/1.1 alone.
func pooled() *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConns:          idleConnections,
		MaxIdleConnsPerHost:   idleConnections,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, Renegotiation: tls.RenegotiateFreelyAsClient, ClientSessionCache: tls.NewLRUClientSessionCache(0),
		},
	}}
}
