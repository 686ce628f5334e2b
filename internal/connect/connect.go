// Package connect turns settings into the SDKs' clients, for the programs.
package connect

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/tracing/azotel"
	"github.com/portcullis-access/portcullis/pkg/broker"
	"github.com/portcullis-access/portcullis/pkg/config"
	"go.opentelemetry.io/otel/trace"

	"github.com/portcullis-access/portcullis/pkg/azure/blobs"
	"github.com/portcullis-access/portcullis/pkg/azure/defender"
	"github.com/portcullis-access/portcullis/pkg/azure/network"
	"github.com/portcullis-access/portcullis/pkg/azure/rights"
	"github.com/portcullis-access/portcullis/pkg/azure/servicebus"
	"github.com/portcullis-access/portcullis/pkg/azure/tables"
)

// Credential gives the credential that the connection asks for.
func Credential(c config.Connection) (azcore.TokenCredential, error) {
	if !c.ManagedIdentity {
		return azidentity.NewDefaultAzureCredential(nil)
	}
	var o azidentity.ManagedIdentityCredentialOptions
	if c.ClientID != "" {
		o.ID = azidentity.ClientID(c.ClientID)
	}
	return azidentity.NewManagedIdentityCredential(&o)
}

// ServiceBus connects to the namespace.
func ServiceBus(c config.Connection) (*azservicebus.Client, error) {
	if c.ConnectionString != "" {
		return azservicebus.NewClientFromConnectionString(string(c.ConnectionString), nil)
	}
	cred, err := Credential(c)
	if err != nil {
		return nil, err
	}
	return azservicebus.NewClient(c.Endpoint, cred, nil)
}

// Entities connects to the namespace's management.
func Entities(c config.Connection) (*servicebus.Entities, error) {
	var client *admin.Client
	var err error
	if c.ConnectionString != "" {
		client, err = admin.NewClientFromConnectionString(string(c.ConnectionString), nil)
	} else {
		var cred azcore.TokenCredential
		if cred, err = Credential(c); err == nil {
			client, err = admin.NewClient(c.Endpoint, cred, nil)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to Service Bus: %w", err)
	}
	return servicebus.NewEntities(client)
}

// Watch is how the calls of the SDKs are seen; its zero value sees none.
type Watch struct {
	// Traces takes their spans.
	Traces trace.TracerProvider
	// Quota sees every answer of Resource Manager.
	Quota *network.Quota
}

func (w Watch) options() (o azcore.ClientOptions) {
	if w.Traces != nil {
		o.TracingProvider = azotel.NewTracingProvider(w.Traces, nil)
	}
	return o
}

// Tables connects to the table service.
func Tables(c config.Connection, watch Watch) (*tables.Store, error) {
	options := &aztables.ClientOptions{ClientOptions: watch.options()}
	options.Transport = pooled()
	var client *aztables.ServiceClient
	var err error
	if c.ConnectionString != "" {
		client, err = aztables.NewServiceClientFromConnectionString(string(c.ConnectionString), options)
	} else {
		var cred azcore.TokenCredential
		if cred, err = Credential(c); err == nil {
			client, err = aztables.NewServiceClient(c.Endpoint, cred, options)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("connecting to the tables: %w", err)
	}
	return tables.New(client)
}

// Anchors connects to the container of the anchors. like names the identity that
// is used.
func Anchors(url string, like config.Connection) (*blobs.Container, error) {
	cred, err := Credential(like)
	if err != nil {
		return nil, err
	}
	client, err := container.NewClient(url, cred, nil)
	if err != nil {
		return nil, fmt.Errorf("connecting to the anchors: %w", err)
	}
	return blobs.New(client)
}

// Network connects to Resource Manager. like names the identity that is used.
func Network(c config.Config, like config.Connection, clock broker.Clock, watch Watch) (*network.Network, error) {
	cred, err := Credential(like)
	if err != nil {
		return nil, err
	}
	o := resourceManager(c)
	o.TracingProvider = watch.options().TracingProvider
	if watch.Quota != nil {
		o.PerRetryPolicies = append(o.PerRetryPolicies, watch.Quota)
	}
	return network.New(cred, &o, clock)
}

// Defender connects to Defender for Cloud as whoever is signed in.
func Defender(c config.Config) (*defender.Reader, error) {
	cred, err := Credential(config.Connection{})
	if err != nil {
		return nil, err
	}
	return defender.New(cred, resourceManager(c))
}

// Rights connects to Resource Manager's roles and locks as whoever is signed in.
func Rights(c config.Config) (*rights.Reader, error) {
	cred, err := Credential(config.Connection{})
	if err != nil {
		return nil, err
	}
	return rights.New(cred, resourceManager(c))
}

// resourceManager is the cloud of the settings.
func resourceManager(c config.Config) (o arm.ClientOptions) {
	o.Cloud = cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
		cloud.ResourceManager: {Endpoint: c.ARMEndpoint, Audience: c.ARMAudience},
	}}
	return o
}

// UserToken gives tokens for an application, by its id URI, from where its user
// is signed in: the default credential chain.
func UserToken(audience string) func(context.Context) (string, error) {
	// The chain keeps the tokens that it gave, and renews them.
	chain := sync.OnceValues(func() (azcore.TokenCredential, error) { return azidentity.NewDefaultAzureCredential(nil) })
	return func(ctx context.Context) (string, error) {
		cred, err := chain()
		if err != nil {
			return "", err
		}
		token, err := cred.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{strings.TrimSuffix(audience, "/") + "/.default"}})
		return token.Token, err
	}
}
