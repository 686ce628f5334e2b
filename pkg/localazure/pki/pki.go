// Package pki is the certificate authority of the local stack: it vouches for
// the stand-ins on loopback so that clients can keep TLS verification on, as
// they do against Azure. It is for one machine and is never meant to be
// installed in a system's trust store.
package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	certName   = "ca.pem"
	bundleName = "bundle.pem"
	keyName    = "ca-key.pem"

	caLifetime = 90 * 24 * time.Hour
	// renewBefore is how much life a stored CA must have left to be reused: a
	// stack left running for days must not outlive its certificates.
	renewBefore = 14 * 24 * time.Hour
	// backdate tolerates a client whose clock is a little behind.
	backdate = time.Hour
)

// CA signs server certificates. Its methods may be called concurrently.
type CA struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// New returns the CA kept in dir, creating the directory (0700) and the CA
// where there is none. A stored CA that has less than 14 days left is replaced.
// A key or certificate that is unreadable, or a pair that does not belong
// together, is an error rather than a reason to replace it: clients may already
// trust the certificate.
//
// The directory then holds ca.pem (the certificate, 0644), bundle.pem (the same
// certificate, for clients that want "a bundle"; no system roots are in it) and
// ca-key.pem (PKCS #8, 0600).
func New(dir string) (*CA, error) {
	if dir == "" {
		return nil, errors.New("pki: no directory given")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	ca, err := load(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		ca, err = create(dir)
	case err == nil && time.Until(ca.cert.NotAfter) < renewBefore:
		ca, err = create(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	if err := writeFile(dir, bundleName, pemBlock("CERTIFICATE", ca.cert.Raw), 0o644); err != nil {
		return nil, fmt.Errorf("pki: %w", err)
	}
	return ca, nil
}

// CertFile is the path of the CA's certificate in PEM: what SSL_CERT_FILE and
// NODE_EXTRA_CA_CERTS should name.
func (c *CA) CertFile() string { return filepath.Join(c.dir, certName) }

// Pool holds the CA's certificate alone, for clients inside this process.
func (c *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c.cert)
	return pool
}

// Server issues a certificate, with a fresh key, for a TLS server reached under
// the given hosts. A host that parses as an IP address becomes an IP SAN, any
// other a DNS SAN taken literally. That includes "host:port": azservicebus uses
// the whole address as the TLS server name where the port is not 5671, and
// crypto/x509 compares a name that is no valid host name exactly.
func (c *CA) Server(hosts ...string) (tls.Certificate, error) {
	if len(hosts) == 0 {
		return tls.Certificate{}, errors.New("pki: a server certificate needs at least one host")
	}
	template, err := newTemplate("portcullis-local server", c.cert.NotAfter)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("pki: %w", err)
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, h := range hosts {
		if h == "" {
			return tls.Certificate{}, errors.New("pki: a host is empty")
		}
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("pki: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, key.Public(), c.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("pki: issuing for %q: %w", hosts, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("pki: issuing for %q: %w", hosts, err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

func create(dir string) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template, err := newTemplate("portcullis-local CA", time.Now().Add(caLifetime))
	if err != nil {
		return nil, err
	}
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.MaxPathLenZero = true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := writeFile(dir, keyName, pemBlock("PRIVATE KEY", keyDER), 0o600); err != nil {
		return nil, err
	}
	// The certificate comes last: a start that was cut off between the two
	// leaves no certificate, and the next start creates both anew.
	if err := writeFile(dir, certName, pemBlock("CERTIFICATE", der), 0o644); err != nil {
		return nil, err
	}
	return &CA{dir: dir, cert: cert, key: key}, nil
}

// load returns fs.ErrNotExist when there is no CA in dir yet.
func load(dir string) (*CA, error) {
	certDER, err := readPEM(filepath.Join(dir, certName), "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certName, err)
	}
	keyDER, err := readPEM(filepath.Join(dir, keyName), "PRIVATE KEY")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is there but %s is not: delete the certificate to start afresh", certName, keyName)
	}
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyDER)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyName, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !cert.IsCA || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%s and %s do not belong together: delete both to start afresh", certName, keyName)
	}
	return &CA{dir: dir, cert: cert, key: key}, nil
}

func newTemplate(name string, notAfter time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial,
		// The serial in the name tells one CA of this kind from the next in a
		// client that still trusts an older one.
		Subject:   pkix.Name{CommonName: name, SerialNumber: serial.Text(36)},
		NotBefore: time.Now().Add(-backdate),
		NotAfter:  notAfter,
	}, nil
}

func readPEM(path, kind string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != kind || len(bytes.TrimSpace(rest)) != 0 {
		return nil, fmt.Errorf("%s: not a single PEM block %q", path, kind)
	}
	return block.Bytes, nil
}

func pemBlock(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// writeFile replaces a file in one step, so that no reader sees half of it. The
// temporary file is 0600 from the start: a private key is never readable, not
// even briefly.
func writeFile(dir, name string, data []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(dir, name+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // fails harmlessly once renamed
	if _, err := tmp.Write(data); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Chmod(mode); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), filepath.Join(dir, name))
}
