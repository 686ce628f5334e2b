package main

// knownAnswers are where both do, or both refuse, and Azurite says it in another
// way, or fails over it.
func knownAnswers() []exception {
	return []exception{
		{"What was created has a Location, and without content a DataServiceId.", []string{
			"* | *Location", "* | *Dataserviceid",
		}},
		{"Preference-Applied repeats the Prefer that there was: Azurite adds it to requests without, and not to those in a transaction.", []string{
			"* | *Preference-Applied",
		}},
		{"The metadata of a list names its table.", []string{
			"insert: list, minimal metadata | body", "insert: list, all metadata | body",
			"queries: columns with metadata | body", "queries: Accept JSON | body",
		}},
		{"A double is written with a fraction, by which clients tell it from a whole number.", []string{
			"insert: a double without a fraction | body", "insert: a whole number that is too long | body",
		}},
		{"$select=* is all columns.", []string{"queries: all columns | body"}},
		{"A property compares with constants of its type, and the numbers with each other.", []string{
			"filters: S ne 5 | body", "filters: D eq 15e-1 | body",
			"filters: I eq -7L | 200, not 500 (no code)", "filters: I eq 99999999999L | 200, not 500 (no code)",
		}},
		{"Keys are told apart by their names, not their order, and both are needed; a quote in one is doubled.", []string{
			"insert: keys in the other order | 200, not 404 ResourceNotFound", "insert: half a key | 400 InvalidInput, not 500 (no code)",
			"queries: quote not doubled | 400 InvalidInput, not 404 ResourceNotFound",
			"refused entities: key with a slash in the URL | 400 OutOfRangeInput, not 500 (no code)",
		}},
		{"In a transaction an insert and a query answer with the entity, and an operation has a Content-ID if the client gave one.", []string{
			"transactions: insert | part * Content-Type", "transactions: insert | part * body",
			"transactions: one query | part 0 Content-Type", "transactions: one query | part 0 body",
			"transactions: * | part 0 Content-Id",
		}},
		{"A batch that cannot be read, or holds what it must not, is refused.", []string{
			"transactions: a query in it | 202 + 405 MethodNotAllowed, not 500 (no code)",
			"transactions: no boundary | 400 InvalidInput, not 500 (no code)",
			"transactions: read the batch | 405 MethodNotAllowed, not 404 TableNotFound",
		}},
		{"One table is a query too.", []string{
			"tables: one table | body", "tables: no such table | 404 ResourceNotFound, not 404 TableNotFound",
		}},
		{"Refusals have codes: in Azurite these have none, or a more general one.", []string{
			"tables: * name | 400 OutOfRangeInput, not 400 (no code)", "tables: name with * | 400 InvalidResourceName, not 400 (no code)",
			"tables: reserved name | 400 InvalidInput, not 400 (no code)", "tables: no name | 400 PropertiesNeedValue, not 400 TableNameEmpty",
			"tables: no JSON | 400 InvalidInput, not 400 (no code)", "refused entities: no JSON | 400 InvalidInput, not 400 (no code)",
			"refused entities: cut JSON | 400 InvalidInput, not 400 (no code)", "refused entities: a list | 400 InvalidInput, not 400 PropertiesNeedValue",
			"refused entities: key with a* | 400 OutOfRangeInput, not 400 InvalidInput", "refused entities: long * key | 400 KeyValueTooLarge, not 400 InvalidInput",
			"access policies: without an id | 400 InvalidXmlDocument, not 400 (no code)", "service: bad properties | 400 InvalidXmlDocument, not 400 (no code)",
			"queries: top -1 | 400 InvalidInput, not 400 (no code)", "queries: top x | 400 InvalidInput, not 400 (no code)",
			"delete: without If-Match | 400 MissingRequiredHeader, not 400 (no code)",
			"update: tunnel through GET | 400 XMethodNotUsingPost, not 400 (no code)",
			"update: tunnel to nowhere | 400 XMethodIncorrectValue, not 400 PropertiesNeedValue",
			"* | 405 MethodNotAllowed, not 400 (no code)", "update: insert over a key | 405 MethodNotAllowed, not 400 PropertiesNeedValue",
		}},
		{"Who cannot be authenticated is told so, and 401 says with what: Azurite has one code for all.", []string{
			"shared keys: none | 401 NoAuthenticationInformation, not 403 AuthorizationFailure",
			"* | 403 AuthenticationFailed, not 403 AuthorizationFailure",
		}},
	}
}
