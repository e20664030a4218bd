import { readFileSync } from "node:fs";
import type { Verdict } from "./run.js";

/** A mutant that no test can detect, or that is allowed to survive on purpose. */
export interface Accepted {
  readonly mutant: string;
  readonly reason: string;
}

export function readAccepted(): ReadonlyMap<string, string> {
  const list = JSON.parse(readFileSync("scripts/mutants/accepted.json", "utf8")) as readonly Accepted[];
  return new Map(list.map(({ mutant, reason }) => [mutant, reason]));
}

/** Minimum fraction of mutants that must be killed or time out. */
export const REQUIRED = 0.9;

const isAlive = ({ fate }: Verdict): boolean => fate === "survived" || fate === "uncovered";

/** Formats a table of the parts and a list of surviving mutants with their reasons. `passed`: enough were killed, and all survivors have a reason. */
export function report(
  verdicts: readonly Verdict[],
  accepted: ReadonlyMap<string, string>,
): { readonly text: string; readonly passed: boolean } {
  const count = (of: readonly Verdict[], fate: Verdict["fate"]): number => of.filter((verdict) => verdict.fate === fate).length;
  const row = (name: string, of: readonly Verdict[]): string => {
    const share = of.length === 0 ? 1 : 1 - of.filter(isAlive).length / of.length;
    const cells = [name, of.length, ...(["killed", "timeout", "survived", "uncovered"] as const).map((fate) => count(of, fate))];
    return `| ${[...cells, `${(100 * share).toFixed(1)} %`].join(" | ")} |`;
  };
  const parts = [...new Set(verdicts.map(({ part }) => part))];
  const alive = verdicts.filter(isAlive);
  const lines = [
    "| part | mutants | killed | timeouts | survived | uncovered | killed or timed out |",
    "|---|---|---|---|---|---|---|",
    ...parts.map((part) =>
      row(
        part,
        verdicts.filter((verdict) => verdict.part === part),
      ),
    ),
    row("all", verdicts),
    "",
    ...alive.map(({ mutant, fate }) => {
      const change = mutant.key.slice(mutant.file.length + 2);
      return `- ${mutant.file}:${mutant.line} ${fate}: \`${change}\`: ${accepted.get(mutant.key) ?? "NO REASON GIVEN"}`;
    }),
  ];
  const enough = verdicts.length - alive.length >= REQUIRED * verdicts.length;
  return { text: `${lines.join("\n")}\n`, passed: enough && alive.every(({ mutant }) => accepted.has(mutant.key)) };
}
