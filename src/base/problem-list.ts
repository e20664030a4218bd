import {
  describePlace,
  describeValues,
  deserialiseError,
  type ErrorCode,
  type ErrorDetails,
  NextvladError,
  type SerialisedError,
} from "./errors.js";

/** Items of a list that a message shows; it counts the others. */
const SHOWN = 3;

/** "a, b, c and 30 more". `total`: how many there are, where `items` has not all of them. */
export function listFirst(
  items: readonly string[],
  { separator = ", ", shown = SHOWN, total = items.length }: { separator?: ", " | "; "; shown?: number; total?: number } = {},
): string {
  const list = items.slice(0, shown).join(separator);
  const more = total - Math.min(items.length, shown);
  return more > 0 ? `${list}${separator === ", " ? "" : ";"} and ${more} more` : list;
}

/** One error for each kind of problem, in the order of their first ones: errors that say the same of several places become one, which counts and shows these. */
export function groupErrors(errors: Iterable<SerialisedError>): readonly NextvladError[] {
  const groups = new Map<string, SerialisedError[]>();
  for (const error of errors) {
    const { code, what, details } = error;
    // Two keys of a config whose values should be different things are two problems; checksums of two records that do not match are one.
    const expected = details.key === undefined ? null : details.expected;
    const kind = JSON.stringify([code, what, details.remedy, expected]);
    const group = groups.get(kind);
    if (group === undefined) groups.set(kind, [error]);
    else group.push(error);
  }
  return Array.from(groups.values(), mergeGroup);
}

function mergeGroup(group: readonly SerialisedError[]): NextvladError {
  const first = group[0] as SerialisedError;
  if (group.length === 1) return deserialiseError(first);
  const isSame = (key: string): boolean => group.every(({ details }) => value(details, key) === value(first.details, key));
  // What lies in different files, records or lines has its whole place in the list: equal numbers in them mean nothing.
  const differs = PLACE_KEYS.findIndex((key) => !isSame(key));
  const split = new Set<string>(differs < 0 ? [] : PLACE_KEYS.slice(differs));
  const common = Object.fromEntries(Object.entries(first.details).filter(([key]) => !split.has(key) && isSame(key)));
  // One of each file before two of one.
  const byFile = new Map(group.toReversed().map((error) => [error.details.file, error]));
  const items = new Set<string>();
  for (const { details } of [...[...byFile.values()].reverse(), ...group]) {
    const item = describeItem(Object.fromEntries(Object.entries(details).filter(([key]) => !(key in common))));
    if (item !== "") items.add(item);
    if (items.size === SHOWN) break;
  }
  const files = byFile.size > 1 && byFile.size < group.length ? ` in ${byFile.size} files` : "";
  const list = items.size === 0 ? "" : `: ${listFirst([...items], { separator: "; ", total: group.length })}`;
  const { expected: _, found: __, ...details } = common as ErrorDetails;
  const values = describeValues(common);
  const what = values === "" ? first.what : `${first.what} (${values})`;
  return new NextvladError(first.code, `${what}, ${group.length} times${files}${list}`, details);
}

/** From the whole to the part. */
const PLACE_KEYS: readonly (keyof ErrorDetails)[] = ["file", "record", "line", "byteOffset", "video"];

function value(details: ErrorDetails, key: string): unknown {
  return details[key as keyof ErrorDetails];
}

/** "record 3, byte 12 (found 11)". */
function describeItem(details: ErrorDetails): string {
  const [place, values] = [describePlace(details), describeValues(details)];
  return place === "" ? values : `${place}${values === "" ? "" : ` (${values})`}`;
}

/**
 * One error for several, one at least, so that they can be fixed in one go: the only one, or one of this code that numbers the kinds of problems.
 * `title` gets the number of problems: "the config has 5 problems".
 */
export function joinErrors(errors: readonly NextvladError[], code: ErrorCode, title: (count: number) => string): NextvladError {
  const groups = groupErrors(errors);
  if (groups.length === 1) return groups[0] as NextvladError;
  const list = groups.map(({ message }, i) => `(${i + 1}) ${message}`);
  return new NextvladError(code, `${title(errors.length)}: ${list.join(" ").replace(/\.$/, "")}`);
}
