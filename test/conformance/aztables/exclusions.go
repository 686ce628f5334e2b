package main

import (
	"strings"

	"github.com/portcullis-access/portcullis/test/conformance/vendor"
)

// emulatorTest is the one test that wants an emulator at a port of its own.
const emulatorTest = "TestAzurite"

// exclusions are the tests that are known not to pass. The sub-tests for Cosmos
// DB are found by the names that were run.
func exclusions(results []vendor.Result) []vendor.Exclusion {
	list := []vendor.Exclusion{
		{Name: emulatorTest, Reason: `writes "some-guid-value" as an Edm.Guid: Azurite takes it, Table Storage and the stand-in answer InvalidInput`},
		{Name: "TestSASCosmosClientReadOnly", Reason: cosmosReason},
	}
	for _, r := range results {
		if kind := kindOf(r.Name); kind == cosmos || kind == cosmosToken {
			list = append(list, vendor.Exclusion{Name: r.Name, Reason: cosmosReason})
		}
	}
	return list
}

const cosmosReason = "for Cosmos DB, another service, which is not imitated"

// The kinds of account that sub-tests are about, with the account's key or with
// a token.
const (
	storage      = "storage"
	storageToken = "storage_tc"
	cosmos       = "cosmos"
	cosmosToken  = "cosmos_tc"
)

// kindOf is the kind of account that a sub-test is about, or "".
func kindOf(name string) string {
	test, sub, _ := strings.Cut(name, "/")
	for _, kind := range []string{storage, storageToken, cosmos, cosmosToken} {
		if sub == test+"_"+kind {
			return kind
		}
	}
	return ""
}
