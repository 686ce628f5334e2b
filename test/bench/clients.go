package main

import (
	"context"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/portcullis-access/portcullis/pkg/azure/tables"
	"github.com/portcullis-access/portcullis/pkg/localazure"
	"github.com/portcullis-access/portcullis/pkg/localazure/identity"
)

// minted gives tokens of the stack's own issuer. The managed identity of
// azidentity keeps its tokens for the whole process, and this one has a second
// stack, whose issuer signs with another key.
type minted struct{ *localazure.Stack }

// GetToken implements azcore.TokenCredential.
func (m minted) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	const lifetime = time.Hour
	token, err := m.Identity.Mint(identity.UserToken{Name: "bench", Audience: o.Scopes[0], Lifetime: lifetime})
	return azcore.AccessToken{Token: token, ExpiresOn: time.Now().Add(lifetime)}, err
}

// noting gives the options by which calls are noted; nil notes none.
func noting(noted *calls) (o azcore.ClientOptions) {
	if noted != nil {
		o.PerCallPolicies = []policy.Policy{noted}
	}
	return o
}

func (s *local) tableService(noted *calls) (*aztables.ServiceClient, error) {
	return aztables.NewServiceClient(s.cfg.Tables.Endpoint, minted{s.Stack}, &aztables.ClientOptions{ClientOptions: noting(noted)})
}

func (s *local) tableStore(noted *calls) (*tables.Store, error) {
	service, err := s.tableService(noted)
	if err != nil {
		return nil, err
	}
	return tables.New(service)
}

func (s *local) bus() (*azservicebus.Client, error) {
	return azservicebus.NewClient(s.cfg.ServiceBus.Endpoint, minted{s.Stack}, nil)
}

func (s *local) armOptions(noted *calls) *arm.ClientOptions {
	o := &arm.ClientOptions{ClientOptions: noting(noted), DisableRPRegistration: true}
	o.Cloud = cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
		cloud.ResourceManager: {Endpoint: s.cfg.ARMEndpoint, Audience: s.cfg.ARMAudience},
	}}
	return o
}
