// Package blobs keeps the anchors of the audit in a container of Blob Storage,
// over azblob: one blob per hour, YYYY/MM/DD/HH.json, written once.
//
// The container is meant to have a locked time-based retention policy of
// container scope, under which blobs are created and read and neither changed nor
// deleted; who sets it is the deployment. The names sort by time.
package blobs

import (
	"bytes"
	"context"
	"crypto/md5" // the service's checksum of a transfer
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/portcullis-access/portcullis/pkg/access"
)

const (
	// name is how an hour's blob is called.
	name = "2006/01/02/15.json"
	// opTimeout bounds one call with its retries.
	opTimeout = time.Minute
	// maxAnchor bounds what is read, in bytes: some 250,000 heads.
	maxAnchor = 64 << 20
)

// Container implements broker.Anchors. It is safe for concurrent use.
type Container struct{ client *container.Client }

// New makes a Container over the client of one.
func New(client *container.Client) (*Container, error) {
	if client == nil {
		return nil, errors.New("blobs: a client is required")
	}
	return &Container{client}, nil
}

// AddAnchor implements broker.Anchors.
func (c *Container) AddAnchor(ctx context.Context, hour time.Time, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	sum := md5.Sum(data)
	_, err := c.client.NewBlockBlobClient(nameOf(hour)).Upload(ctx, streaming.NopCloser(bytes.NewReader(data)), &blockblob.UploadOptions{
		TransactionalValidation: blob.TransferValidationTypeMD5(sum[:]),
		HTTPHeaders:             &blob.HTTPHeaders{BlobContentType: to.Ptr("application/json")},
		AccessConditions:        &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)}},
	})
	return failure(err, "writing an anchor")
}

// Anchor implements broker.AnchorReader.
func (c *Container) Anchor(ctx context.Context, hour time.Time) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	res, err := c.client.NewBlobClient(nameOf(hour)).DownloadStream(ctx, nil)
	if err != nil {
		return nil, failure(err, "reading an anchor")
	}
	defer func() { _ = res.Body.Close() }() // it was only read
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnchor+1))
	if err != nil {
		return nil, failure(err, "reading an anchor")
	}
	if len(data) > maxAnchor {
		return nil, access.Errorf(access.Internal, "anchor_too_large", "the anchor of %s has more than %d bytes", nameOf(hour), maxAnchor)
	}
	return data, nil
}

// AnchoredHours implements broker.AnchorReader. What lies in the container under
// another name is no anchor and is passed over.
func (c *Container) AnchoredHours(ctx context.Context, from, to time.Time) ([]time.Time, error) {
	var out []time.Time
	for _, prefix := range prefixes(from, to) {
		pager := c.client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &prefix})
		for pager.More() {
			page, err := c.next(ctx, pager.NextPage)
			if err != nil {
				return nil, failure(err, "listing anchors")
			}
			for _, b := range page.Segment.BlobItems {
				if b.Name == nil {
					continue
				}
				hour, err := time.Parse(name, *b.Name)
				if err == nil && nameOf(hour) == *b.Name && !hour.Before(from) && hour.Before(to) {
					out = append(out, hour)
				}
			}
		}
	}
	return out, nil
}

func (c *Container) next(ctx context.Context, page func(context.Context) (container.ListBlobsFlatResponse, error)) (container.ListBlobsFlatResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	return page(ctx)
}

// prefixes are what the names of the hours begin with: a month each, or nothing
// where that would be many.
func prefixes(from, to time.Time) (out []string) {
	const most = 12
	if from.IsZero() || to.Sub(from) > most*28*24*time.Hour {
		return []string{""}
	}
	from, to = from.UTC(), to.UTC()
	for m := time.Date(from.Year(), from.Month(), 1, 0, 0, 0, 0, time.UTC); m.Before(to); m = m.AddDate(0, 1, 0) {
		out = append(out, m.Format("2006/01/"))
	}
	return out
}

func nameOf(hour time.Time) string { return hour.UTC().Format(name) }

func failure(err error, doing string) error {
	if err == nil {
		return nil
	}
	res, ok := errors.AsType[*azcore.ResponseError](err)
	switch {
	case !ok:
		return access.Wrap(err, access.Unavailable, "blobs_unavailable", doing+": the container could not be reached")
	// Which of the two a blob under a policy answers is the service's choice.
	case bloberror.HasCode(err, bloberror.BlobAlreadyExists, bloberror.BlobImmutableDueToPolicy), res.StatusCode == http.StatusPreconditionFailed:
		return access.Wrap(err, access.AlreadyExists, "anchor_exists", doing+": there is one")
	case bloberror.HasCode(err, bloberror.ContainerNotFound):
		return access.Wrap(err, access.Unavailable, "container_missing", doing+": there is no such container")
	case res.StatusCode == http.StatusNotFound:
		return access.Wrap(err, access.NotFound, "anchor_missing", doing+": there is none")
	case res.StatusCode == http.StatusForbidden, res.StatusCode == http.StatusUnauthorized:
		return access.Wrap(err, access.Unavailable, "azure_permission", doing+": our identity may not")
	case res.StatusCode == http.StatusBadRequest:
		return access.Wrap(err, access.Internal, "blobs_refused", doing+": the service refused it")
	}
	return access.Wrap(err, access.Unavailable, "blobs_unavailable", doing+": the container is not well")
}
