package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// view is what the demo reads of the access API's answer.
type view struct {
	ID      string `json:"id"`
	Refusal *struct {
		Reason     string `json:"reason"`
		Violations []struct {
			Path    string `json:"path"`
			Reason  string `json:"reason"`
			Message string `json:"message"`
		} `json:"violations"`
	} `json:"refusal"`
	VirtualMachines []struct {
		Ports []struct {
			Status       string    `json:"status"`
			StatusReason string    `json:"statusReason"`
			EndTimeUTC   time.Time `json:"endTimeUtc"`
			BlockedBy    string    `json:"blockedBy"`
		} `json:"ports"`
	} `json:"virtualMachines"`
}

func (v view) status() string {
	switch {
	case v.Refusal != nil:
		return "Refused"
	case len(v.VirtualMachines) == 0 || len(v.VirtualMachines[0].Ports) == 0:
		return ""
	}
	return v.VirtualMachines[0].Ports[0].Status
}

// await polls the access API until the request has the status.
func (d *story) await(ctx context.Context, id, status string) (view, error) {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	last := "nothing is known of it"
	for {
		v, found, err := d.get(ctx, id)
		if err != nil && ctx.Err() == nil {
			return view{}, err
		}
		if found {
			last = "it is " + v.status()
			if v.status() == status {
				return v, nil
			}
			if v.status() == "Refused" || v.status() == "Failed" {
				return view{}, fmt.Errorf("request %s should become %s, but %s: %+v", id, status, last, v)
			}
		}
		select {
		case <-ctx.Done():
			return view{}, fmt.Errorf("request %s should become %s, but %s", id, status, last)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (d *story) get(ctx context.Context, id string) (v view, found bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.stack.env["FUNCTIONS_ENDPOINT"]+"/api/access-requests/"+id+"?channel=queue", nil)
	if err != nil {
		return view{}, false, err
	}
	req.Header.Set("Authorization", "Bearer "+d.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return view{}, false, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return view{}, false, err
	}
	switch res.StatusCode {
	case http.StatusNotFound:
		return view{}, false, nil
	case http.StatusOK:
		return v, true, json.Unmarshal(body, &v)
	}
	return view{}, false, fmt.Errorf("the access API answered %s: %s", res.Status, body)
}
