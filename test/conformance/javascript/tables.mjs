// What the Tables SDK does with a table of its own, besides the main job.

import assert from "node:assert/strict";
import { odata, TableClient, TableServiceClient, TableTransaction } from "@azure/data-tables";
import { env, identity, run } from "./clients.mjs";
import { all, refused, step } from "./steps.mjs";

export async function tablesOfOurOwn() {
  const name = `js${run}`;
  const byToken = new TableClient(env.AZURE_TABLES_ENDPOINT, name, identity);
  const byKey = TableClient.fromConnectionString(env.AZURE_STORAGE_CONNECTION_STRING, name);
  await step("by token and by key: a table takes a transaction, and refuses a stale ETag", async () => {
    await byToken.createTable();
    const rows = new TableTransaction();
    for (const n of [1, 2, 3]) rows.createEntity({ partitionKey: "it's", rowKey: `r${n}`, n, at: new Date(0), big: 2n ** 60n, raw: new Uint8Array([n]) });
    assert.equal((await byToken.submitTransaction(rows.actions)).status, 202, "the transaction");
    const twice = new TableTransaction();
    twice.createEntity({ partitionKey: "it's", rowKey: "r4" });
    twice.createEntity({ partitionKey: "it's", rowKey: "r1" });
    assert.equal((await refused(byKey.submitTransaction(twice.actions), "a row that exists")).code, "EntityAlreadyExists");
    const found = await all(byKey.listEntities({ queryOptions: { filter: odata`PartitionKey eq ${"it's"} and n gt ${1}` } }));
    assert.deepEqual(found.map((r) => [r.rowKey, r.n, r.big, r.raw[0], r.at.getTime()]), [["r2", 2, 2n ** 60n, 2, 0], ["r3", 3, 2n ** 60n, 3, 0]], "rows");
    const [row] = found;
    await byKey.updateEntity({ partitionKey: "it's", rowKey: "r2", n: 20 }, "Merge", { etag: row.etag });
    const stale = await refused(byToken.updateEntity({ partitionKey: "it's", rowKey: "r2", n: 30 }, "Merge", { etag: row.etag }), "a stale ETag");
    assert.deepEqual([stale.statusCode, stale.code ?? stale.details?.odataError?.code], [412, "UpdateConditionNotSatisfied"]);
    const service = TableServiceClient.fromConnectionString(env.AZURE_STORAGE_CONNECTION_STRING);
    assert.ok((await all(service.listTables())).some((t) => t.name === name), "the table should be listed");
    await byKey.deleteTable();
  });
}
