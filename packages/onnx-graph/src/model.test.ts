import { execFileSync } from 'node:child_process';
import {
  closeSync,
  copyFileSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { WireType } from '@bufbuild/protobuf/wire';
import * as fc from 'fast-check';
import {
  ModelProtoSchema,
  TensorProto_DataLocation as DataLocation,
  TensorProtoSchema,
  type ModelProto,
  type TensorProto,
} from 'onnx-buf';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeBytes, makeNode } from '../fixtures/make.js';
import { fixture, pixels, run } from '../fixtures/run.js';
import {
  addSignals,
  describeModel,
  findVisionEncoder,
  OnnxArgumentError,
  OnnxFileError,
  OnnxGraphError,
  parseModel,
  serializeModel,
} from './index.js';
import { readModel } from './files.js';

/** Where the tests write models; what lies beside it is outside. */
let folder = '';
beforeAll(() => {
  folder = join(mkdtempSync(join(tmpdir(), 'onnx-graph-')), 'models');
  mkdirSync(folder);
});
afterAll(() => {
  rmSync(join(folder, '..'), { recursive: true });
});

const EAGER = fixture('clip-eager-17.onnx');
const EXTERNAL = fixture('clip-external.onnx');

/**
 * Weights of 1 KiB and more in it: patch and position embeddings; in two layers, four projections and two of
 * the MLP.
 */
const LARGE = 2 + 2 * 6;

/** Writes a file into the test's folder and returns its path. */
function file(name: string, content: Uint8Array | string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

function externalData(tensor: TensorProto): Record<string, string> {
  return Object.fromEntries(tensor.externalData.map(({ key, value }) => [key, value]));
}

function read(source: string | Uint8Array): ReturnType<typeof parseModel> {
  return typeof source === 'string' ? readModel(source) : parseModel(source);
}

/** What reading throws. */
function failure(source: string | Uint8Array): OnnxFileError {
  try {
    read(source);
  } catch (error) {
    if (OnnxFileError.isInstance(error)) return error;
    throw error;
  }
  throw new Error('expected an OnnxFileError');
}

describe('reading a file', () => {
  const bytes = readFileSync(EAGER);
  const whole = fromBinary(ModelProtoSchema, bytes);

  test('large weights stay where they are, named by offset and length', () => {
    const { graph } = readModel(EAGER);
    let large = 0;
    whole.graph?.initializer.forEach((original, i) => {
      const tensor = graph.initializer[i];
      expect([tensor.name, tensor.dims, tensor.dataType]).toEqual([
        original.name,
        original.dims,
        original.dataType,
      ]);
      if (original.rawData.length < 1024) {
        expect(tensor.rawData).toEqual(original.rawData);
        return;
      }
      large++;
      const { location, offset, length } = externalData(tensor);
      expect(location).toBe('clip-eager-17.onnx');
      expect(tensor.rawData).toHaveLength(0);
      const start = Number(offset);
      expect(bytes.subarray(start, start + Number(length)).equals(original.rawData)).toBe(true);
    });
    expect(large).toBe(LARGE);
  });

  test('everything else is as in the file', () => {
    const { proto } = readModel(EAGER);
    const bare = (model: ModelProto): Uint8Array => {
      const copy = fromBinary(ModelProtoSchema, toBinary(ModelProtoSchema, model));
      if (copy.graph) copy.graph.initializer = [];
      return toBinary(ModelProtoSchema, copy);
    };
    expect(bare(proto)).toEqual(bare(whole));
  });

  test('is the same model as its bytes', async () => {
    const [fromPath, fromBytes] = [readModel(EAGER), parseModel(bytes)];
    expect(fromBytes.folder).toBeUndefined();
    expect(serializeModel(fromPath).bytes.length).toBeLessThan(0.7 * bytes.length);
    expect(Buffer.from(serializeModel(fromBytes).bytes).equals(bytes)).toBe(true);
    const feeds = { pixel_values: pixels() };
    expect((await run(fromPath, feeds)).image_features).toEqual((await run(fromBytes, feeds)).image_features);
    const weightFiles = ['clip-eager-17.onnx']; // the weights stay where they are
    expect(describeModel(fromPath)).toEqual({ ...describeModel(fromBytes), weightFiles });
  });

  test('existing external data is kept', () => {
    const { graph } = readModel(EXTERNAL);
    const locations = graph.initializer.map((tensor) => externalData(tensor).location).filter(Boolean);
    expect(new Set(locations)).toEqual(new Set(['clip-external.onnx_data']));
  });

  test('a file that states that its weights are inline, as re-saved ones do', () => {
    const model = fromBinary(ModelProtoSchema, bytes);
    for (const tensor of model.graph?.initializer ?? []) tensor.dataLocation = DataLocation.DEFAULT;
    const { graph } = readModel(file('stated.onnx', toBinary(ModelProtoSchema, model)));
    expect(graph.initializer.filter((tensor) => tensor.dataLocation === DataLocation.EXTERNAL)).toHaveLength(
      LARGE,
    );
  });

  test('fields of a later ONNX version survive', () => {
    const unknown = { no: 5000, wireType: WireType.LengthDelimited, data: Uint8Array.of(2, 7, 8) };
    const model = fromBinary(ModelProtoSchema, bytes);
    model.$unknown = [unknown];
    const read = readModel(file('later.onnx', toBinary(ModelProtoSchema, model)));
    const { model: patched } = addSignals(read, findVisionEncoder(read), [{ name: 'keys' }]);
    const written = fromBinary(ModelProtoSchema, serializeModel(patched).bytes);
    expect(written.$unknown).toEqual([unknown]);
  });

  test('links of a download cache: the graph is one blob, the weights are another', async () => {
    const blobs = join(folder, 'blobs');
    const snapshot = join(folder, 'snapshot');
    mkdirSync(blobs);
    mkdirSync(snapshot);
    copyFileSync(EXTERNAL, join(blobs, 'aaaa'));
    copyFileSync(`${EXTERNAL}_data`, join(blobs, 'bbbb'));
    symlinkSync(join(blobs, 'aaaa'), join(snapshot, 'clip-external.onnx'));
    symlinkSync(join(blobs, 'bbbb'), join(snapshot, 'clip-external.onnx_data'));
    const linked = readModel(join(snapshot, 'clip-external.onnx'));
    expect(basename(linked.folder ?? '')).toBe('blobs');
    const feeds = { pixel_values: pixels() };
    expect((await run(linked, feeds)).image_features).toEqual(
      (await run(readModel(EXTERNAL), feeds)).image_features,
    );
  });

  test('weights of a subgraph, and more than 2 GiB, without reading them', () => {
    const size = 3 * 2 ** 30;
    const tensor = Buffer.concat([
      toBinary(
        TensorProtoSchema,
        create(TensorProtoSchema, { name: 'w', dims: [BigInt(size)], dataType: 3 }),
      ),
      key(9, size),
    ]);
    const subgraph = Buffer.concat([key(5, tensor.length + size), tensor]);
    const attribute = Buffer.concat([
      key(1, 11),
      Buffer.from('then_branch'),
      key(6, subgraph.length + size),
      subgraph,
    ]);
    const node = Buffer.concat([key(4, 2), Buffer.from('If'), key(5, attribute.length + size), attribute]);
    const graph = Buffer.concat([key(1, node.length + size), node]);
    const start = Buffer.concat([
      makeBytes([], { inputs: ['x'], outputs: ['x'] }),
      key(7, graph.length + size),
      graph,
    ]);
    const path = file('huge.onnx', start);
    const descriptor = openSync(path, 'r+');
    ftruncateSync(descriptor, start.length + size);
    closeSync(descriptor);
    const model = readModel(path);
    const weight = model.graph.node[0].attribute[0].g?.initializer[0];
    expect(weight && externalData(weight)).toEqual({
      location: 'huge.onnx',
      offset: String(start.length),
      length: String(size),
    });
    expect(describeModel(model).weightBytes).toBe(size);
  });

  /** A delimited field's key and length. */
  function key(field: number, length: number): Buffer {
    const varint: number[] = [field * 8 + 2];
    for (; length >= 128; length = Math.floor(length / 128)) varint.push((length % 128) + 128);
    return Buffer.from([...varint, length]);
  }
});

describe('weights that are not where they should be', () => {
  const bytes = readFileSync(EXTERNAL);

  /** The external fixture with an entry of its first external tensor changed, in a folder of its own. */
  function changed(entry: string, value: string): string {
    const model = fromBinary(ModelProtoSchema, bytes);
    const tensor = model.graph?.initializer.find(({ externalData: entries }) => entries.length > 0);
    for (const one of tensor?.externalData ?? []) if (one.key === entry) one.value = value;
    copyFileSync(`${EXTERNAL}_data`, join(folder, 'clip-external.onnx_data'));
    writeFileSync(join(folder, '..', 'outside.onnx_data'), '');
    return file('changed.onnx', toBinary(ModelProtoSchema, model));
  }

  test.each([
    ['location', '../outside.onnx_data', /"\.\.\/outside.onnx_data".*leads out of the model's folder/],
    ['location', 'a/../../outside.onnx_data', /leads out/],
    ['location', '..\\outside.onnx_data', /leads out/],
    ['location', '/etc/passwd', /"\/etc\/passwd".*leads out/],
    ['location', 'C:\\weights', /leads out/],
    ['location', '\\\\host\\share', /leads out/],
    ['location', 'a\0b', /leads out/],
    ['location', '', /leads out/],
    ['location', 'missing.onnx_data', /not beside it \(ENOENT\).*Put the weights there/],
    ['location', '.', /not a file/],
    [
      'offset',
      '99999999',
      /at offset 99999999 of clip-external.onnx_data, which has \d+ bytes: the file is truncated/,
    ],
    ['offset', '-4096', /at offset -4096/],
    ['offset', '1e3', /at offset 1e3/],
    ['offset', 'NaN', /at offset NaN/],
    ['length', '17', /has 17 bytes/],
    ['length', 'much', /has much bytes/],
  ])('%s %j', (entry, value, message) => {
    const error = failure(changed(entry, value));
    expect(error.message).toMatch(message);
    expect(error.file).toBe(join(folder, 'changed.onnx'));
  });

  test('a link that leads elsewhere', () => {
    const path = changed('location', 'link.onnx_data');
    symlinkSync(`${EXTERNAL}_data`, join(folder, 'link.onnx_data'));
    expect(failure(path).message).toMatch(/a link to .*clip-external.onnx_data, which lies elsewhere/);
  });

  test('a data file that is too short', () => {
    const path = changed('none', '');
    writeFileSync(
      join(folder, 'clip-external.onnx_data'),
      readFileSync(`${EXTERNAL}_data`).subarray(0, 1500),
    );
    expect(failure(path).message).toMatch(/which has 1500 bytes: the file is truncated/);
  });

  test('bytes alone', () => {
    expect(failure(bytes).message).toMatch(
      /^bytes: .*bytes alone cannot reach.*Read the model from its path/,
    );
  });
});

describe('what is no model', () => {
  test.each([
    ['empty', '', /is empty/],
    ['text', 'Not Found\n', /truncated or no ONNX model/],
    ['JSON', '{"error": "Repository not found"}', /truncated or no ONNX model/],
    ['HTML', '<!DOCTYPE html><html></html>', /truncated or no ONNX model/],
    ['a PNG', Buffer.from('89504e470d0a1a0a0000000d49484452', 'hex'), /truncated or no ONNX model/],
    ['zeros', Buffer.alloc(5000), /Field number 0 at byte 0 of 5000/],
    ['a Git LFS pointer', 'version https://git-lfs.github.com/spec/v1\noid sha256:0\n', /git lfs pull/],
    [
      'a length of 2^50',
      Buffer.from([0x3a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02]),
      /bytes more than there are/,
    ],
    ['an endless number', Buffer.alloc(5000, 0xff), /more than 10 bytes at byte 0/],
    [
      'a message without a graph',
      toBinary(ModelProtoSchema, create(ModelProtoSchema, { irVersion: 8n })),
      /no graph/,
    ],
  ])('%s', (name, content, message) => {
    const path = file('foreign.onnx', content);
    const error = failure(path);
    expect(error.message).toMatch(message);
    expect(error.message).toContain(path);
    if (name !== 'empty' && name !== 'a Git LFS pointer') failure(Buffer.from(content));
  });

  test.runIf(process.platform === 'linux')('a pipe that nobody writes into, a device', () => {
    const pipe = join(folder, 'pipe.onnx');
    execFileSync('mkfifo', [pipe]);
    expect(failure(pipe).message).toMatch(/is not a file/);
    expect(failure('/dev/zero').message).toMatch(/is not a file/);
  });

  test('nothing, or a folder', () => {
    expect(failure(join(folder, 'nothing.onnx')).message).toMatch(/there is no such file/);
    expect(failure(folder).message).toMatch(/is not a file/);
  });

  test('neither a path nor bytes', () => {
    expect(() => readModel(7 as unknown as string)).toThrow(OnnxArgumentError);
    expect(() => parseModel('a path' as unknown as Uint8Array)).toThrow(OnnxArgumentError);
  });

  test('graphs nested too deep', () => {
    let bytes: Uint8Array = Buffer.from([]);
    for (let depth = 0; depth < 200; depth++) {
      for (const field of [6, 5, 1]) bytes = Buffer.concat([delimited(field, bytes)]);
    }
    bytes = Buffer.concat([delimited(7, Buffer.concat([bytes, Buffer.alloc(0)]))]);
    expect(failure(file('deep.onnx', bytes)).message).toMatch(/truncated or no ONNX model/);
    failure(bytes);
  });

  test.each([
    ['a node that reads itself', [makeNode('Relu', ['y'], ['y'])], /Relu "y" reads "y"/],
    [
      'two that read each other',
      [makeNode('Relu', ['a'], ['y']), makeNode('Relu', ['y'], ['a'])],
      /reads "a"/,
    ],
    ['what nothing makes', [makeNode('Relu', ['absent'], ['y'])], /reads "absent", which nothing makes/],
    [
      'one tensor made twice',
      [makeNode('Relu', ['x'], ['y']), makeNode('Erf', ['x'], ['y'])],
      /"y" is made twice/,
    ],
  ])('%s', (_, nodes, message) => {
    const model = parseModel(makeBytes(nodes, { inputs: ['x'], outputs: ['y'] }));
    expect(() => findVisionEncoder(model)).toThrow(OnnxFileError);
    expect(() => findVisionEncoder(model)).toThrow(message);
  });

  test('operators of a set that is not imported', () => {
    const node = makeNode('Attention', ['x'], ['y']);
    node.domain = 'com.microsoft';
    expect(failure(makeBytes([node], { inputs: ['x'], outputs: ['y'] })).message).toMatch(
      /com.microsoft.Attention but imports no version/,
    );
  });

  function delimited(field: number, content: Uint8Array): Buffer {
    const length: number[] = [];
    let rest = content.length;
    for (; rest >= 128; rest = Math.floor(rest / 128)) length.push((rest % 128) + 128);
    return Buffer.concat([Buffer.from([field * 8 + 2, ...length, rest]), content]);
  }
});

describe('damage', () => {
  const bytes = readFileSync(fixture('clip-ms-attention.onnx'));

  /** Reads and looks for the encoder; whatever goes wrong has to be an error of this package. */
  function survives(content: Uint8Array): 'read' | 'refused' {
    const path = file('damaged.onnx', content);
    const outcomes = [path, content].map((source) => {
      try {
        const model = read(source);
        describeModel(model);
        serializeModel(addSignals(model, findVisionEncoder(model), [{ name: 'attentionReceived' }]).model);
        return 'read';
      } catch (error) {
        if (!OnnxGraphError.isInstance(error)) throw error;
        expect(error.message.length).toBeLessThan(2000);
        return 'refused';
      }
    });
    return outcomes.includes('read') ? 'read' : 'refused';
  }

  test('truncated anywhere: refused', () => {
    // The file ends with the operator sets, without which no model is complete.
    const lengths = fc.integer({ min: 0, max: bytes.length - 1 });
    const ends = Array.from({ length: 50 }, (_, i): [number] => [bytes.length - 1 - i]);
    fc.assert(
      fc.property(lengths, (length) => {
        expect(survives(bytes.subarray(0, length))).toBe('refused');
      }),
      { numRuns: 300, examples: [[0], [1], [2], ...ends] },
    );
  });

  test('bytes changed: read or refused', () => {
    const change = fc.tuple(fc.integer({ min: 0, max: bytes.length - 1 }), fc.integer({ min: 0, max: 255 }));
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 8 }), (changes) => {
        const damaged = Buffer.from(bytes);
        for (const [position, value] of changes) damaged[position] = value;
        survives(damaged);
      }),
      // The example makes a name of most of the file.
      {
        numRuns: 300,
        examples: [
          [
            [
              [393, 177],
              [94, 0],
            ],
          ],
        ],
      },
    );
  });

  test('any bytes: refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 400 }), (content) => {
        expect(survives(content)).toBe('refused');
      }),
    );
  });
});
