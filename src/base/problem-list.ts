import {
  describePlace,
  describeValues,
  deserializeError,
  type ErrorCode,
  type ErrorDetails,
  NextvladError,
  type SerializedError,
} from "./errors.js";

/** Number of items of a list that a message shows; the others are only counted. */
const SHOWN = 3;

/** Formats a list, like "a, b, c and 30 more". `total` is the number of items if `items` does not have all of them. */
export function listFirst(
  items: readonly string[],
  { separator = ", ", shown = SHOWN, total = items.length }: { separator?: ", " | "; "; shown?: number; total?: number } = {},
): string {
  const list = items.slice(0, shown).join(separator);
  const more = total - Math.min(items.length, shown);
  return more > 0 ? `${list}${separator === ", " ? "" : ";"} and ${more} more` : list;
}

/** Merges errors that differ only in location (or found values) into one that counts them and lists the first. Keeps the order of first occurrence. */
export function groupErrors(errors: Iterable<SerializedError>): readonly NextvladError[] {
  const groups = new Map<string, SerializedError[]>();
  for (const error of errors) {
    const { code, what, details } = error;
    // Config keys with different expected values are different problems; two records with mismatched checksums are the same problem.
    const expected = details.key === undefined ? null : details.expected;
    const kind = JSON.stringify([code, what, details.remedy, expected]);
    const group = groups.get(kind);
    if (group === undefined) groups.set(kind, [error]);
    else group.push(error);
  }
  return Array.from(groups.values(), mergeGroup);
}

function mergeGroup(group: readonly SerializedError[]): NextvladError {
  const first = group[0] as SerializedError;
  if (group.length === 1) return deserializeError(first);
  const isSame = (key: string): boolean => group.every(({ details }) => value(details, key) === value(first.details, key));
  // From the first location key that differs, all keys go into the list: equal record numbers in different files are coincidence.
  const differs = PLACE_KEYS.findIndex((key) => !isSame(key));
  const split = new Set<string>(differs < 0 ? [] : PLACE_KEYS.slice(differs));
  const common = Object.fromEntries(Object.entries(first.details).filter(([key]) => !split.has(key) && isSame(key)));
  // List one error of each file before a second one of any file.
  const byFile = new Map(group.toReversed().map((error) => [error.details.file, error]));
  const items = new Set<string>();
  for (const { details } of [...[...byFile.values()].reverse(), ...group]) {
    const item = describeItem(Object.fromEntries(Object.entries(details).filter(([key]) => !(key in common))));
    if (item !== "") items.add(item);
    if (items.size === SHOWN) break;
  }
  const files = byFile.size > 1 && byFile.size < group.length ? ` in ${byFile.size} files` : "";
  const places = items.size === 0 ? {} : { places: listFirst([...items], { separator: "; ", total: group.length }) };
  const { expected: _, found: __, ...details } = common as ErrorDetails;
  const values = describeValues(common);
  const what = values === "" ? first.what : `${first.what} (${values})`;
  return new NextvladError(first.code, `${what}, ${group.length} times${files}`, { ...details, ...places });
}

/** From the largest unit to the smallest. */
const PLACE_KEYS: readonly (keyof ErrorDetails)[] = ["file", "record", "line", "byteOffset", "video"];

function value(details: ErrorDetails, key: string): unknown {
  return details[key as keyof ErrorDetails];
}

/** Formats one location, like "record 3, byte 12 (found 11)". */
function describeItem(details: ErrorDetails): string {
  const [place, values] = [describePlace(details), describeValues(details)];
  return place === "" ? values : `${place}${values === "" ? "" : ` (${values})`}`;
}

/**
 * Joins one or more errors into one, so that the user can fix all at once. Several kinds of problems become an error with the given code that lists them.
 * `title` receives the number of problems: "the config has 5 problems".
 */
export function joinErrors(errors: readonly NextvladError[], code: ErrorCode, title: (count: number) => string): NextvladError {
  const groups = groupErrors(errors);
  if (groups.length === 1) return groups[0] as NextvladError;
  return new NextvladError(code, title(errors.length), { problems: groups.map(({ message }) => message) });
}
