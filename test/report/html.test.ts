import assert from "node:assert/strict";
import { test } from "node:test";
import { escapeHtml, html, jsonElement } from "../../src/report/html.js";
import { HOSTILE } from "../helpers/reports.js";

test("inserted text is escaped, inserted HTML is not", () => {
  const cell = html`<td title="${`"'<>&`}">${"<b>"}`;
  assert.equal(html`<tr>${[cell, cell]}${1}</tr>`.text, `<tr>${'<td title="&quot;&#39;&lt;&gt;&amp;">&lt;b&gt;'.repeat(2)}1</tr>`);
});

test("control characters and bidirectional marks become visible", () => {
  assert.equal(escapeHtml("a\u202eb\u001bc\nd\ud800"), "a\\u202Eb\\x1Bc\\nd\\xED\\xA0\\x80");
});

test("no data can end its element, and all data are read as written", () => {
  const value = { text: `${HOSTILE}<!--\u2028\u2029` };
  const { text } = jsonElement(value);
  const [, json = ""] = /^<script type="application\/json">([^<>\u2028\u2029]*)<\/script>$/.exec(text) ?? [];
  assert.deepEqual(JSON.parse(json), value);
});
