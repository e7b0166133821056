import { create, toBinary } from '@bufbuild/protobuf';
import {
  AttributeProto_AttributeType as AttributeType,
  ModelProtoSchema,
  TensorProto_DataType as DataType,
} from 'onnx-buf';

/**
 * An ONNX file of one node: the float32 inputs `rows` [M, D] and `others` [N, D] give `products` [M, N], the
 * dot product of every row with every other. For comparing what an encoder put out, such as PruMerge's keys,
 * in the same runtime.
 */
export function rowProductsGraph(): Uint8Array {
  const matrix = (name: string, ...sizes: string[]) => {
    const dim = sizes.map((size) => ({ value: { case: 'dimParam', value: size } as const }));
    const tensor = { case: 'tensorType', value: { elemType: DataType.FLOAT, shape: { dim } } } as const;
    return { name, type: { value: tensor } };
  };
  const transposed = { name: 'transB', type: AttributeType.INT, i: 1n };
  const node = { opType: 'Gemm', input: ['rows', 'others'], output: ['products'], attribute: [transposed] };
  return toBinary(
    ModelProtoSchema,
    create(ModelProtoSchema, {
      irVersion: 8n,
      opsetImport: [{ domain: '', version: 13n }],
      graph: {
        name: 'row products',
        node: [node],
        input: [matrix('rows', 'M', 'D'), matrix('others', 'N', 'D')],
        output: [matrix('products', 'M', 'N')],
      },
    }),
  );
}
