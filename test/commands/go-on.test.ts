import assert from "node:assert/strict";
import { test } from "node:test";
import { goOnCommand } from "../../src/commands/go-on.js";
import { runToEnd } from "./nextvlad.js";

test("the command that goes on is the one that was given, with --resume once, whole through a shell", async () => {
  const args = ["infer", "--filelist", "/data/it's here/test*.tfrecord", "--set", "MODEL.topk=5", "--weights", "a b"];
  const command = goOnCommand(args);
  const { stdout } = await runToEnd("bash", ["-c", `nextvlad() { printf '%s\\n' "$@"; }; ${command}`]);
  assert.deepEqual(stdout.trimEnd().split("\n"), [...args, "--resume"]);
  assert.equal(goOnCommand(["eval", "--resume", "--batch-size=4"]), "nextvlad eval --resume --batch-size=4");
});
