/** Significant digits of C's and Python's `%g`. */
const DIGITS = 6;

/**
 * Formats a finite number as C's and Python's `%g` do: six significant digits without trailing zeros, an exponent of at least two digits below 1e-4 and from
 * 1e6 on; ties round to even.
 */
export function formatGeneral(value: number): string {
  // Four times faster for nearly all probabilities: no exponent, no rounding up to 1, and no tie, which from 1e-4 on would end within 11 binary places.
  if (value >= 1e-4 && value < 0.999 && !Number.isInteger(value * 2048)) return withoutClosingZeros(value.toPrecision(DIGITS));
  const [digits = "", exponentText = ""] = roundToDigits(value).split("e");
  const exponent = Number(exponentText);
  const mantissa = digits.includes(".") ? digits.replace(/\.?0+$/, "") : digits;
  if (exponent < -4 || exponent >= DIGITS) {
    return `${mantissa}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
  }
  const sign = Object.is(value, -0) || value < 0 ? "-" : "";
  const whole = mantissa.replace(/[-.]/g, "");
  if (exponent < 0) return `${sign}0.${"0".repeat(-exponent - 1)}${whole}`;
  const padded = whole.padEnd(exponent + 1, "0");
  const rest = padded.slice(exponent + 1);
  return sign + padded.slice(0, exponent + 1) + (rest === "" ? "" : `.${rest}`);
}

function withoutClosingZeros(fraction: string): string {
  let end = fraction.length;
  while (fraction.charAt(end - 1) === "0") end--;
  return fraction.slice(0, end);
}

/**
 * Returns `d.ddddde±x`, rounded half to even. JavaScript rounds half up (away from 0), which differs if seven digits give the value exactly, as for 2 ** -9.
 */
function roundToDigits(value: number): string {
  const rounded = value.toExponential(DIGITS - 1);
  const longer = value.toExponential(DIGITS);
  const isTie = Number(longer) === value && /5e/.test(longer) && /^-?\d\.\d{5}50*e/.test(value.toExponential(100));
  if (!isTie) return rounded;
  const lower = longer.replace("5e", "e");
  return Number(lower.charAt(lower.indexOf("e") - 1)) % 2 === 0 ? lower : rounded;
}
