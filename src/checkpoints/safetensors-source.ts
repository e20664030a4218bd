import { type Dtype, SafetensorsFile } from "../formats/tensors/safetensors.js";
import type { ArrayEntry, RawArray, WeightSource } from "./weight-source.js";

/** The metadata key under which `nextvlad export` stores the config. */
export const CONFIG_KEY = "nextvlad.config";

/** Returns numpy's name of a dtype: `f4` for `F32`. Types that numpy lacks keep their name in lower case. */
function numpyName(dtype: Dtype): string {
  const [, letter = "", bits] = /^([FIU])(\d+)$/.exec(dtype) ?? [];
  return bits === undefined ? dtype.toLowerCase() : `${letter.toLowerCase()}${Number(bits) / 8}`;
}

/**
 * Opens safetensors files as one source: a snapshot's weights and its optimizer's moments, or a single file. Throws FILE_MISSING, FILE_UNREADABLE, BAD_FORMAT.
 */
export async function openSafetensors(
  path: string,
  files: readonly string[],
  { form, snapshot }: Pick<WeightSource, "form" | "snapshot">,
): Promise<WeightSource> {
  const opened: SafetensorsFile[] = [];
  const close = async (): Promise<void> => {
    for (const file of opened) await file.close();
  };
  try {
    for (const file of files) opened.push(await SafetensorsFile.open(file));
  } catch (error) {
    await close();
    throw error;
  }
  const entries = new Map<string, ArrayEntry>();
  for (const { tensors } of opened) {
    for (const [name, { dtype, shape }] of tensors) entries.set(name, { dtype: numpyName(dtype), shape });
  }
  async function* read(names: ReadonlySet<string>): AsyncGenerator<RawArray> {
    for (const file of opened) {
      for (const name of file.tensors.keys()) {
        if (!names.has(name)) continue;
        const { dtype, shape, data } = await file.read(name);
        yield { name, dtype: numpyName(dtype), shape, bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
      }
    }
  }
  const embeddedConfig = opened.map(({ metadata }) => metadata[CONFIG_KEY]).find((config) => config !== undefined);
  return { path, form, snapshot, ...(embeddedConfig === undefined ? {} : { embeddedConfig }), entries, read, close };
}
