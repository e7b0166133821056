/**
 * Reads an ONNX file without its weights. The file is walked field by field (protobuf's wire format: a key,
 * then a length for nested messages and byte strings), and `raw_data` of large initializers is skipped by its
 * declared length. What remains, the skeleton, is a valid ModelProto of some kilobytes whose skipped
 * initializers are external data that points into the file itself. Cost: one small read per large
 * initializer, whatever the file's size.
 */
import { create, toBinary } from '@bufbuild/protobuf';
import { TensorProto_DataLocation, TensorProtoSchema } from 'onnx-buf';

/** Random access to the bytes of a file. */
export interface ByteSource {
  readonly size: number;
  /** The bytes [start, end); both lie within the source. */
  read(start: number, end: number): Uint8Array;
}

/** The wire format is broken at a byte of the file. */
export class WireError extends Error {
  readonly offset: number;

  constructor(offset: number, problem: string) {
    super(`${problem} at byte ${offset}`);
    this.offset = offset;
  }
}

/**
 * `raw_data` of at least this many bytes stays in the file; onnxruntime's own threshold for external data.
 */
const LARGE = 1024;
/** Subgraphs nested deeper than this are no model that any exporter writes. */
const MAX_DEPTH = 32;
/** Everything but weights must fit into memory comfortably. */
const MAX_SKELETON = 2 ** 29;
/** TensorProto.raw_data (onnx.proto). */
const RAW_DATA = 9;

type Kind = 'model' | 'graph' | 'node' | 'attribute' | 'tensor';
type Children = Readonly<Record<number, Kind | undefined>>;

/**
 * Which fields of a message lead to initializers, by field number (onnx.proto): ModelProto.graph,
 * GraphProto.node ...
 */
const CHILDREN: Readonly<Record<Kind, Children>> = {
  model: { 7: 'graph' },
  graph: { 1: 'node', 5: 'tensor' },
  node: { 5: 'attribute' },
  attribute: { 6: 'graph', 11: 'graph' },
  tensor: {},
};

interface Field {
  readonly number: number;
  /** The key's first byte. */
  readonly start: number;
  /** First byte of the value: for length-delimited fields, behind the length. */
  readonly value: number;
  readonly end: number;
  readonly delimited: boolean;
}

/**
 * The bytes of a ModelProto without its large weights.
 *
 * @param location - what the skipped initializers name as their external file: the source file's own name
 * @throws WireError where the bytes are not protobuf, or a length points out of its message
 */
export function readSkeleton(source: ByteSource, location: string): Uint8Array {
  const parts: Uint8Array[] = [];
  let total = 0;
  const emit = (part: Uint8Array): void => {
    total += part.length;
    if (total > MAX_SKELETON) throw new WireError(source.size, 'More than 512 MiB that are not initializers');
    parts.push(part);
  };

  /** Appends the message [start, end) to `parts` and returns how many bytes it became. */
  const copyMessage = (kind: Kind, start: number, end: number, depth: number): number => {
    if (depth > MAX_DEPTH) throw new WireError(start, 'Graphs nested too deep');
    const before = total;
    let skipped: Field | undefined;
    for (const field of fields(source, start, end)) {
      const child = CHILDREN[kind][field.number];
      const length = field.end - field.value;
      if (kind === 'tensor' && field.number === RAW_DATA && field.delimited && length >= LARGE) {
        skipped = field;
      } else if (child !== undefined && field.delimited && length >= LARGE) {
        emit(new Uint8Array(source.read(field.start, lengthStart(source, field))));
        const lengthAt = parts.push(new Uint8Array()) - 1;
        const size = varint(copyMessage(child, field.value, field.end, depth + (child === 'graph' ? 1 : 0)));
        parts[lengthAt] = size;
        total += size.length;
      } else {
        emit(new Uint8Array(source.read(field.start, field.end)));
      }
    }
    // At the end, where it wins over a data_location that the file itself states.
    if (skipped) emit(externalFields(location, skipped.value, skipped.end - skipped.value));
    return total - before;
  };

  copyMessage('model', 0, source.size, 0);
  return Buffer.concat(parts);
}

/** The fields of the message [start, end), in order. */
function* fields(source: ByteSource, start: number, end: number): Generator<Field> {
  let position = start;
  while (position < end) {
    const [key, value] = readVarint(source, position, end);
    const number = Math.floor(key / 8);
    const type = key % 8;
    if (number < 1) throw new WireError(position, 'Field number 0');
    let next: number;
    let from = value;
    if (type === 0) [, next] = readVarint(source, value, end);
    else if (type === 1) next = value + 8;
    else if (type === 5) next = value + 4;
    else if (type === 2) {
      const [length, content] = readVarint(source, value, end);
      from = content;
      next = content + length;
    } else throw new WireError(position, `Wire type ${type}, which no ONNX field has,`);
    if (next > end)
      throw new WireError(position, `A field that needs ${next - end} bytes more than there are`);
    yield { number, start: position, value: from, end: next, delimited: type === 2 };
    position = next;
  }
}

/** Where a delimited field's length begins: behind its key. */
function lengthStart(source: ByteSource, field: Field): number {
  return readVarint(source, field.start, field.end)[1];
}

/**
 * A base-128 varint and the position behind it. 64-bit values lose precision, which lengths and keys do not
 * need.
 */
function readVarint(source: ByteSource, start: number, end: number): [value: number, next: number] {
  const bytes = source.read(start, Math.min(start + 10, end));
  let value = 0;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i] ?? 0;
    value += (byte & 0x7f) * 2 ** (7 * i);
    if (byte < 0x80) return [value, start + i + 1];
  }
  throw new WireError(start, bytes.length < 10 ? 'An unfinished number' : 'A number of more than 10 bytes');
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  for (; value >= 0x80; value = Math.floor(value / 0x80)) bytes.push((value % 0x80) | 0x80);
  bytes.push(value);
  return Uint8Array.from(bytes);
}

/** TensorProto fields that stand in for `raw_data`: repeated messages merge when their bytes are joined. */
function externalFields(location: string, offset: number, length: number): Uint8Array {
  const externalData = Object.entries({ location, offset: String(offset), length: String(length) });
  return toBinary(
    TensorProtoSchema,
    create(TensorProtoSchema, {
      externalData: externalData.map(([key, value]) => ({ key, value })),
      dataLocation: TensorProto_DataLocation.EXTERNAL,
    }),
  );
}
