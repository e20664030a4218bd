import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fastestOnCpu } from "../../src/kernels/choose.js";
import type { ProductSize } from "../../src/kernels/cpu.js";

const AVX512 = { byteInstructions: true, vectorBits: 512 };
const AVX2 = { byteInstructions: false, vectorBits: 256 };
const V2 = { byteInstructions: false, vectorBits: 128 };
const HIDDEN = { terms: 36_864, columns: 2048 };
const CLASSIFIER = { terms: 2048, columns: 3862 };
const GATING = { terms: 2048, columns: 256 };

describe("the choice of kernels", () => {
  test("reads the right factor row by row up to 64 rows from 16 MiB on, up to 128 from 2 MiB on, else up to 2, and never transposed", () => {
    const isRows = (size: ProductSize, processor = AVX512): boolean => fastestOnCpu(processor).matMul(size) === "rows";
    const rowsAt = (processor: typeof AVX512) => (matrix: typeof HIDDEN) =>
      [1, 2, 3, 64, 65, 128, 129].filter((rows) => isRows({ ...matrix, rows }, processor));
    assert.deepEqual([HIDDEN, CLASSIFIER, GATING].map(rowsAt(AVX512)), [
      [1, 2, 3, 64],
      [1, 2, 3, 64],
      [1, 2, 3, 64, 65, 128],
    ]);
    assert.deepEqual(rowsAt(AVX2)(GATING), [1, 2, 3, 64, 65, 128]);
    assert.deepEqual([HIDDEN, GATING].map(rowsAt(V2)), [
      [1, 2, 3, 64],
      [1, 2],
    ]);
    // 16 MiB, and one column less.
    assert.deepEqual(
      [2048, 2047].map((columns) => isRows({ rows: 65, terms: 2048, columns })),
      [false, true],
    );
    // 2 MiB, and one column less.
    assert.deepEqual(
      [256, 255].map((columns) => isRows({ rows: 3, terms: 2048, columns })),
      [true, false],
    );
    assert.deepEqual(
      [{ transposeA: true }, { transposeB: true }].map((form) => isRows({ ...HIDDEN, rows: 2, ...form })),
      [false, false],
    );
  });

  test("with AVX2 reads it row by row for up to 256 rows if its rows are a multiple of 4 KiB apart, from 4 MiB on", () => {
    const rowsAt = (processor: typeof AVX2, matrix: typeof HIDDEN) =>
      [129, 160, 256, 257].filter((rows) => fastestOnCpu(processor).matMul({ ...matrix, rows }) === "rows");
    const ofAudioset = { terms: 1024, columns: 1024 };
    assert.deepEqual(
      [HIDDEN, ofAudioset].map((matrix) => rowsAt(AVX2, matrix)),
      [
        [129, 160, 256],
        [129, 160, 256],
      ],
    );
    const others = [
      { terms: 1023, columns: 1024 },
      { terms: 4096, columns: 512 },
      { terms: 4096, columns: 1000 },
    ];
    assert.deepEqual(
      others.map((matrix) => rowsAt(AVX2, matrix)),
      [[], [], []],
    );
    assert.deepEqual(
      [AVX512, V2].map((processor) => rowsAt(processor, ofAudioset)),
      [[], []],
    );
    const forms = [{ transposeA: true }, { transposeB: true }].map((form) => fastestOnCpu(AVX2).matMul({ ...HIDDEN, rows: 160, ...form }));
    assert.deepEqual(forms, ["panels", "tensorflow"]);
  });

  test("copies the factors of products from 128 rows to panels, for 0.5 to 100 million operations (200 with AVX2 and 256 columns, 5 with fewer than 32), in any form", () => {
    const isPanels = (size: ProductSize): boolean => fastestOnCpu(AVX2).matMul(size) === "panels";
    const size = { rows: 200, terms: 500, columns: 1000 };
    assert.deepEqual([size, { ...size, transposeA: true }, { ...size, transposeB: true }].map(isPanels), [true, true, true]);
    assert.deepEqual(
      [1000, 1001].map((columns) => isPanels({ ...size, columns })),
      [true, false],
    );
    assert.deepEqual(
      [1000, 1001].map((columns) => fastestOnCpu(AVX512).matMul({ ...size, columns })),
      ["panels", "tensorflow"],
    );
    assert.deepEqual(
      [500, 501].map((columns) => fastestOnCpu(V2).matMul({ ...size, columns })),
      ["panels", "tensorflow"],
    );
    // Narrower than 256 columns.
    assert.deepEqual(
      [784, 785].map((terms) => isPanels({ rows: 250, terms, columns: 255 })),
      [true, false],
    );
    assert.deepEqual(
      [25, 24].map((terms) => isPanels({ rows: 200, terms, columns: 50 })),
      [true, false],
    );
    // Narrower than a panel.
    assert.deepEqual(
      [32, 31].map((columns) => isPanels({ rows: 1000, terms: 1000, columns })),
      [true, false],
    );
    assert.deepEqual(
      [1250, 1251].map((terms) => isPanels({ rows: 250, terms, columns: 8 })),
      [true, false],
    );
    assert.deepEqual(
      [8, 7].map((columns) => isPanels({ rows: 250, terms: 1000, columns })),
      [true, false],
    );
    assert.deepEqual(
      [128, 127].map((rows) => isPanels({ ...size, rows })),
      [true, false],
    );
  });

  test("copies frozen weights that are not larger than the caches to panels, and uses them from 3 rows", () => {
    const rows = [HIDDEN, CLASSIFIER, GATING].map(({ terms, columns }) => fastestOnCpu(AVX2).minPackedRows(terms, columns));
    assert.deepEqual(rows, [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY, 3]);
    // 16 MiB, and one column less.
    assert.deepEqual(
      [2048, 2047].map((columns) => fastestOnCpu(AVX2).minPackedRows(2048, columns)),
      [Number.POSITIVE_INFINITY, 3],
    );
    assert.equal(fastestOnCpu(AVX512).minPackedRows(GATING.terms, GATING.columns), 3);
  });

  test("multiplies bytes in training only if the processor has the instruction, and only for large batches", () => {
    const bytes = [AVX512, AVX2].map((processor) => [999, 1000].map(fastestOnCpu(processor).bytesInTraining));
    assert.deepEqual(bytes, [
      [false, true],
      [false, false],
    ]);
  });
});
