// Package infra holds what the deployment makes, for the programs that compare
// what stands with it.
package infra

import _ "embed"

// Entities describes the queues, topics and subscriptions: entities.json.
//
//go:embed entities.json
var Entities []byte

// Tables names the tables: tables.json.
//
//go:embed tables.json
var Tables []byte

// Role holds the actions of the role for network security groups: nsg-role.json.
//
//go:embed nsg-role.json
var Role []byte
