/** Element types of ONNX tensors (onnx.proto, TensorProto.DataType), and the values of small ones. */
import { TensorProto_DataLocation, TensorProto_DataType as T, type TensorProto } from 'onnx-buf';

interface ElementType {
  /** As onnxruntime calls it in JavaScript where it has a name there. */
  readonly name: string;
  readonly bits: number;
}

const ELEMENT_TYPES: Readonly<Record<number, ElementType | undefined>> = {
  [T.FLOAT]: { name: 'float32', bits: 32 },
  [T.UINT8]: { name: 'uint8', bits: 8 },
  [T.INT8]: { name: 'int8', bits: 8 },
  [T.UINT16]: { name: 'uint16', bits: 16 },
  [T.INT16]: { name: 'int16', bits: 16 },
  [T.INT32]: { name: 'int32', bits: 32 },
  [T.INT64]: { name: 'int64', bits: 64 },
  [T.BOOL]: { name: 'bool', bits: 8 },
  [T.FLOAT16]: { name: 'float16', bits: 16 },
  [T.DOUBLE]: { name: 'float64', bits: 64 },
  [T.UINT32]: { name: 'uint32', bits: 32 },
  [T.UINT64]: { name: 'uint64', bits: 64 },
  [T.COMPLEX64]: { name: 'complex64', bits: 64 },
  [T.COMPLEX128]: { name: 'complex128', bits: 128 },
  [T.BFLOAT16]: { name: 'bfloat16', bits: 16 },
  [T.FLOAT8E4M3FN]: { name: 'float8e4m3fn', bits: 8 },
  [T.FLOAT8E4M3FNUZ]: { name: 'float8e4m3fnuz', bits: 8 },
  [T.FLOAT8E5M2]: { name: 'float8e5m2', bits: 8 },
  [T.FLOAT8E5M2FNUZ]: { name: 'float8e5m2fnuz', bits: 8 },
  [T.UINT4]: { name: 'uint4', bits: 4 },
  [T.INT4]: { name: 'int4', bits: 4 },
  [T.FLOAT4E2M1]: { name: 'float4e2m1', bits: 4 },
};

/** Name of an element type; null for one that is not known here. */
export function elementTypeName(type: number): string | null {
  return ELEMENT_TYPES[type]?.name ?? null;
}

/**
 * Bytes that a tensor's values need; undefined where its type has no fixed size, or the dimensions are
 * absurd.
 */
export function byteLength(tensor: TensorProto): number | undefined {
  const type = ELEMENT_TYPES[tensor.dataType];
  const elements = tensor.dims.reduce((product, dim) => product * Number(dim), 1);
  if (type === undefined || elements < 0 || !Number.isSafeInteger(elements)) return undefined;
  return Math.ceil((elements * type.bits) / 8);
}

/** Whether a tensor's values lie in another file. */
export function isExternal(tensor: TensorProto): boolean {
  return tensor.dataLocation === TensorProto_DataLocation.EXTERNAL;
}

interface Decoder {
  readonly bytes: number;
  readonly raw: (view: DataView, offset: number) => number;
  /** The field of TensorProto that holds the values where `raw_data` does not. */
  readonly field: (tensor: TensorProto) => number[];
}

const DECODERS: Readonly<Record<number, Decoder | undefined>> = {
  [T.FLOAT]: { bytes: 4, raw: (view, at) => view.getFloat32(at, true), field: (tensor) => tensor.floatData },
  [T.DOUBLE]: {
    bytes: 8,
    raw: (view, at) => view.getFloat64(at, true),
    field: (tensor) => tensor.doubleData,
  },
  [T.INT32]: { bytes: 4, raw: (view, at) => view.getInt32(at, true), field: (tensor) => tensor.int32Data },
  [T.INT64]: {
    bytes: 8,
    raw: (view, at) => Number(view.getBigInt64(at, true)),
    field: (tensor) => tensor.int64Data.map(Number),
  },
  [T.FLOAT16]: {
    bytes: 2,
    raw: (view, at) => float16(view.getUint16(at, true)),
    field: (tensor) => tensor.int32Data.map(float16),
  },
};

/** The values of a tensor of a usual numeric type that lies in the graph itself; undefined for any other. */
export function tensorValues(tensor: TensorProto): number[] | undefined {
  const decoder = DECODERS[tensor.dataType];
  if (decoder === undefined || isExternal(tensor)) return undefined;
  const { rawData: raw } = tensor;
  if (raw.length === 0) return decoder.field(tensor);
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  return Array.from({ length: Math.floor(raw.length / decoder.bytes) }, (_, i) =>
    decoder.raw(view, i * decoder.bytes),
  );
}

/** IEEE 754 binary16. */
function float16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}
