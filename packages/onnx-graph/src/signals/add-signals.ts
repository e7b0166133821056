/** Adds the signals that methods ask for to a vision encoder, as small further outputs. */
import { AttentionTap } from '../attention-tap.js';
import { OnnxArgumentError, OnnxStructureError } from '../errors.js';
import { GraphEditor } from '../graph-editor.js';
import type { OnnxModel } from '../model.js';
import { locateEncoder, type VisionEncoder } from '../vision-encoder.js';
import { checkParameters } from './check-parameters.js';
import type { GraphSignal, SignalRequest } from './graph-signal.js';
import { graphSignals } from './index.js';
import { LayerTap } from './layer-tap.js';

/** What {@link addSignals} returns. */
export interface SignalOutputs {
  /** The model with further outputs. */
  readonly model: OnnxModel;
  /** The output's name for each request; the same for the same request. */
  readonly outputs: string[];
}

/** A signal with one value a patch; which layer it is of, the place says. */
export type ScoreRequest = Pick<SignalRequest, 'name'> & Readonly<Record<string, string>>;

/** A request, found to be right. */
interface Wanted {
  readonly signal: GraphSignal;
  /** Absent where the signal is of all layers. */
  readonly layer?: number;
  readonly parameters: Readonly<Record<string, string>>;
}

/**
 * The model with the signals as further outputs, computed from what the graph has or, beside a fused
 * attention, from its queries and keys. Everything that was there stays as it is. Only where `attentionMap`
 * is asked for do maps leave the graph.
 *
 * @param model - the model that `encoder` was found in
 * @throws OnnxArgumentError where a request names no signal, no layer of the encoder, or no value of a
 * parameter
 * @throws OnnxStructureError for class attention without a class token, features that keep theirs, or an
 *   attention that cannot be computed from queries and keys alone
 */
export function addSignals(
  model: OnnxModel,
  encoder: VisionEncoder,
  requests: readonly SignalRequest[],
): SignalOutputs {
  if (requests.length === 0) return { model, outputs: [] };
  const wanted = requests.map((request, i) => checkRequest(request, `requests[${i}]`, encoder));
  if (encoder.classToken === 'kept') {
    throw new OnnxStructureError(
      model.file,
      'features of patches alone',
      'a class token among them',
      'Export the model with vision_feature_select_strategy "default".',
    );
  }
  const { index, attentions } = locateEncoder(model, { output: encoder.output });
  const editor = new GraphEditor(index);
  // Patches of one picture, [P, ...], come without a batch.
  const batch = index.rank(encoder.input) === 2 ? null : encoder.input;
  const taps = attentions.map(
    (attention) => new LayerTap(editor, encoder.prefixTokens, new AttentionTap(editor, attention, batch)),
  );
  const made = new Map<string, string>();
  const outputs = wanted.map(({ signal, layer, parameters }) => {
    const name = [signal.name, ...(layer === undefined ? [] : [layer]), ...Object.values(parameters)].join(
      '_',
    );
    const output =
      made.get(name) ??
      addOutput(editor, taps, name, { signal, ...(layer !== undefined && { layer }), parameters });
    made.set(name, output);
    return output;
  });
  return { model: editor.build(), outputs };
}

function addOutput(
  editor: GraphEditor,
  taps: readonly LayerTap[],
  name: string,
  { signal, layer, parameters }: Wanted,
): string {
  const used = layer === undefined ? taps : taps.slice(layer, layer + 1);
  if (used.length === 0)
    throw new OnnxArgumentError('encoder', `${taps.length} layers`, 'the one found in this model');
  // Tensors of other numbers of tokens need other names of their dimensions.
  const shape = signal.shape.map((axis) => (axis === 'layers' ? taps.length : `${name}_${axis}`));
  return editor.output(name, signal.add(used, parameters), shape);
}

/**
 * A signal with one value for each of the N patches, as scores to choose by. [B, N]
 * @param attention the layer's
 * @param argument how messages call the request
 * @throws OnnxArgumentError where it is no such signal; OnnxStructureError where the encoder cannot give it
 */
export function scoreOf(
  editor: GraphEditor,
  encoder: VisionEncoder,
  attention: AttentionTap,
  { name, ...given }: ScoreRequest,
  argument: string,
): string {
  const signal = knownSignal(name, `${argument}.name`);
  if (signal.of !== 'layer' || signal.shape.join() !== 'batch,tokens') {
    throw new OnnxArgumentError(`${argument}.name`, name, 'a signal of one layer with one value a patch');
  }
  const parameters = checkParameters(signal, given, argument);
  return signal.add([new LayerTap(editor, encoder.prefixTokens, attention)], parameters);
}

function knownSignal(name: string, argument: string): GraphSignal {
  const signal = graphSignals.get(name);
  if (signal) return signal;
  throw new OnnxArgumentError(argument, name, `one of ${[...graphSignals.keys()].join(', ')}`);
}

function checkRequest(
  { name, layer, ...given }: SignalRequest,
  argument: string,
  encoder: VisionEncoder,
): Wanted {
  const signal = knownSignal(name, `${argument}.name`);
  const parameters = checkParameters(signal, given, argument);
  if (signal.of === 'encoder') {
    if (layer === undefined) return { signal, parameters };
    throw new OnnxArgumentError(`${argument}.layer`, layer, `left out: ${name} covers all layers`);
  }
  if (layer === undefined || layer === 'features')
    return { signal, parameters, layer: encoder.featuresLayer };
  const last = encoder.layers.length - 1;
  if (Number.isInteger(layer) && layer >= 0 && layer <= last) return { signal, parameters, layer };
  throw new OnnxArgumentError(
    `${argument}.layer`,
    layer,
    `'features' or one of the ${last + 1} layers that the graph has, 0 to ${last} (an exporter leaves out those that no output needs)`,
  );
}
