import type { Config } from "../config/schema.js";

/** The rates of dropout: of the descriptor, and of the output of context gating, which the classifier reads. */
export interface DropRates {
  readonly descriptor: number;
  readonly hidden: number;
}

/** Returns the drop rates for a config's MODEL section. */
export function dropRates({ drop_rate, hidden_drop_rate }: Pick<Config["MODEL"], "drop_rate" | "hidden_drop_rate">): DropRates {
  return { descriptor: drop_rate, hidden: hidden_drop_rate };
}
