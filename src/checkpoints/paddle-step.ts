import { NextvladError } from "../base/errors.js";
import { showText } from "../base/shown-value.js";
import { STEP_COUNTER } from "./model-arrays.js";
import type { RawArray, WeightSource } from "./weight-source.js";

const BETA2 = Math.fround(0.999);
const BETA2_POWER = /_beta2_pow_acc_0$/;
/** 0.999^85000 is close to the smallest normal float32: beyond that, the power loses precision and stops changing. */
const MAX_STEPS_BY_POWER = 85_000;

/** The number of steps that Paddle's optimizer has taken, and where it was found, for the log. */
export interface PaddleStep {
  readonly step: number;
  readonly origin: string;
}

/**
 * Returns the number of steps of a Paddle optimizer state: `given` (`--resume-step`) if set; else `@LR_DECAY_COUNTER@` + 1 (the counter is -1 before the first
 * step and n - 1 after n steps); else from the powers of beta2, which are beta2^(n+1) after n steps.
 * Throws BAD_WEIGHTS if none of these is available.
 */
export async function findPaddleStep(source: WeightSource, given: number | null): Promise<PaddleStep> {
  if (given !== null) return { step: given, origin: "from --resume-step" };
  const power = [...source.entries.keys()].find((name) => BETA2_POWER.test(name));
  const names = new Set([STEP_COUNTER, ...(power === undefined ? [] : [power])]);
  const values = new Map<string, number>();
  for await (const array of source.read(names)) values.set(array.name, firstValue(array, source.path));
  const counter = values.get(STEP_COUNTER);
  const byPower = stepsOfPower(values.get(power ?? ""));
  if (counter !== undefined) {
    if (!Number.isSafeInteger(counter) || counter < -1) throw unusable(source.path, STEP_COUNTER, counter);
    const step = counter + 1;
    const other = byPower === null || byPower === step ? "" : ` (the powers of beta2 give ${byPower})`;
    return { step, origin: `from ${STEP_COUNTER}${other}` };
  }
  if (byPower !== null) return { step: byPower, origin: "from the powers of beta2" };
  throw new NextvladError("BAD_WEIGHTS", "unknown number of steps: the weights have no step counter", {
    file: source.path,
    expected: `${STEP_COUNTER}, or powers of beta2 from the first ${MAX_STEPS_BY_POWER} steps`,
    found: power === undefined ? "neither" : `${showText(power)} of ${values.get(power)}`,
    remedy: "pass it with --resume-step",
  });
}

function firstValue({ name, dtype, bytes }: RawArray, path: string): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (dtype === "i8" && bytes.length >= 8) return Number(view.getBigInt64(0, true));
  if (dtype === "f4" && bytes.length >= 4) return view.getFloat32(0, true);
  throw unusable(path, name, `${bytes.length} bytes of ${dtype}`);
}

function unusable(file: string, parameter: string, found: string | number): NextvladError {
  return new NextvladError("BAD_WEIGHTS", "invalid step counter", {
    file,
    parameter,
    found,
    remedy: "pass the number of steps with --resume-step",
  });
}

/** Multiplies in float32, as Paddle does, until the power is reached; returns null if it is never reached. */
function stepsOfPower(power: number | undefined): number | null {
  if (power === undefined) return null;
  let expected = BETA2;
  let nearest = { step: 0, gap: Math.abs(expected - power) };
  for (let step = 1; step <= MAX_STEPS_BY_POWER && expected > power; step++) {
    expected = Math.fround(expected * BETA2);
    const gap = Math.abs(expected - power);
    if (gap < nearest.gap) nearest = { step, gap };
  }
  // Other builds may round differently; half a step changes the power by 5e-4 of its value.
  return nearest.gap <= 4e-4 * power ? nearest.step : null;
}
