/** Encodes values as a .npy file (version 1), in row-major order. */
export function encodeNpy(data: Uint8Array | Float32Array | Float64Array | Int32Array, shape: readonly number[]): Buffer {
  const dtype = data instanceof Uint8Array ? "|u1" : data instanceof Float32Array ? "<f4" : data instanceof Float64Array ? "<f8" : "<i4";
  const header = `{'descr': '${dtype}', 'fortran_order': False, 'shape': (${shape.join(", ")},), }\n`;
  const length = Buffer.alloc(2);
  length.writeUInt16LE(header.length);
  const values = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return Buffer.concat([Buffer.from("\x93NUMPY\x01\x00", "latin1"), length, Buffer.from(header, "latin1"), values]);
}
