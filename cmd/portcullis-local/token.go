package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/portcullis-access/portcullis/pkg/localazure"
	"github.com/spf13/cobra"
)

func tokenCommand() *cobra.Command {
	var envFile, as string
	var roles []string
	c := &cobra.Command{
		Use:   "token",
		Short: "mint a user's token of the local issuer, for the running stack",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			env, err := readEnv(envFile)
			if err != nil {
				return fmt.Errorf("is the stack running? %w", err)
			}
			token, err := mint(c.Context(), env, as, roles)
			if err != nil {
				return err
			}
			fmt.Fprintln(c.OutOrStdout(), token)
			return nil
		},
	}
	c.Flags().StringVar(&envFile, "env-file", ".local/env", "the running stack's environment file")
	c.Flags().StringVar(&as, "as", "", "the user, such as alice@contoso.com")
	c.Flags().StringArrayVar(&roles, "role", nil, "an app role; may be given more than once")
	_ = c.MarkFlagRequired("as") // fails only for a flag that is not defined
	return c
}

func readEnv(path string) (map[string]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	env := map[string]string{}
	for line := range strings.Lines(string(data)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok {
			env[name] = strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(value, "'"), "'"), `'\''`, "'")
		}
	}
	return env, nil
}

func mint(ctx context.Context, env map[string]string, as string, roles []string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	body, err := json.Marshal(map[string]any{"name": as, "roles": roles, "audience": localazure.Audience})
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, env["PORTCULLIS_LOCAL_MINT_ENDPOINT"], bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-IDENTITY-HEADER", env["IDENTITY_HEADER"])
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the stack's issuer refused: %s", res.Status)
	}
	var out struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(data, &out); err != nil {
		return "", err
	}
	return out.Token, nil
}
