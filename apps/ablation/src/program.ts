/** The command line: what can be written, and its help. */
import { devices, dtypes } from '@foveate/lvlm';
import { modelDirectory, questionsFile } from '@foveate/tiny-llava';
import { Command, InvalidArgumentError, Option } from 'commander';
import { ablate, type AblateOptions } from './ablate.js';
import { ask, type AskOptions } from './ask.js';
import { backendNames } from './backend.js';
import { parseDtype } from './dtype.js';
import { describeMethods, describeMethodsOf } from './methods.js';
import { print } from './output.js';
import { findPreset, presets } from './presets.js';
import { pull, type ModelOptions, type PullOptions } from './pull.js';
import { report, type ReportOptions } from './report/report.js';
import { formats } from './table.js';
import { version } from './version.js';

const DEFAULT_REDUCERS = 'none,fopru-rank,fopru-row,uniform,random,pooling';
const DEFAULT_KEEP = '0.75,0.5,0.25,0.11,0.06';

const DEFAULT_LIMIT = 240;

const SPEC_HELP = `
A SPEC is a method with its options, name[:option=value]..., and + puts one after another:
  none   fopru-rank   fopru-rank:keep=0.5:significance=received   fopru-row:keep=0.5+fopru-rank:keep=0.5
"foveate methods" lists methods and options. "keep" is the share of the tokens kept, "count" their number.`;

const BACKEND_HELP = `
Backends, which give the same answers: onnx (marginals of the attention in the encoder's graph, plans in plain JS); js (both in plain
JS); tfjs-node-gpu, tfjs-node, wasm (both on tensors of TensorFlow.js). For one of the last three install @tensorflow/tfjs-node-gpu,
@tensorflow/tfjs-node or @tensorflow/tfjs-backend-wasm beside foveate.`;

const EXAMPLE_IMAGE = 'node_modules/@foveate/tiny-llava/data/images/0001.png';

export function createProgram(): Command {
  const program = new Command('foveate')
    .description(
      'Lets a vision-language model read fewer visual tokens, and measures what that costs and saves.',
    )
    .version(version)
    .showHelpAfterError('(--help says what there is)')
    .addHelpText('after', '\n"foveate COMMAND --help" says more of each, with examples.');
  program.addCommand(ablateCommand(), { isDefault: false });
  program.addCommand(askCommand());
  program.addCommand(pullCommand());
  program.addCommand(reportCommand());
  program.addCommand(methodsCommand());
  // Wrong usage throws, like every other error, so that main alone decides on the exit code.
  for (const command of [program, ...program.commands]) command.exitOverride().copyInheritedSettings(program);
  return program;
}

function ablateCommand(): Command {
  return new Command('ablate')
    .summary('ask the same questions with each method, and print the table')
    .description(
      'Asks one model the same questions with each method and prints accuracy beside time and memory.\n' +
        'Answers are written as they are made; times and memory come from passes of their own after them.',
    )
    .option(
      '--model <model>',
      'folder in the layout of transformers.js, or owner/name of the hub (default: the embedded model)',
    )
    .addOption(revisionOption())
    .option('--local-only', 'use what the cache holds of a model of the hub, without the network', false)
    .option('--data <file>', 'questions, a JSON object a line (default: those of the embedded model)')
    .option('--reducers <specs>', 'SPECs joined by commas, a row each', DEFAULT_REDUCERS)
    .option('--keep <ratios>', 'a SPEC that states no budget becomes a row for each of these', DEFAULT_KEEP)
    .addOption(
      new Option('--preset <name>', 'rows of a table of the paper, or all methods at equal cost')
        .choices(presets.map(({ name }) => name))
        .conflicts(['reducers', 'keep']),
    )
    .option(
      '--limit <n>',
      `questions to ask, each kind with its share; 0: all (default: ${DEFAULT_LIMIT}; with a preset of the paper all)`,
      parseCount,
    )
    .option('--seed <n>', 'another seed draws other questions', parseSeed, 0)
    .addOption(perOption())
    .addOption(dtypeOption())
    .addOption(deviceOption())
    .addOption(backendOption())
    .option('--out <dir>', 'folder of the results', 'out')
    .option('--resume', 'go on with the answers that the folder of the results holds', false)
    .addOption(new Option('--format <format>', 'of what is printed').choices(formats).default('table'))
    .addHelpText(
      'after',
      `${SPEC_HELP}
${BACKEND_HELP}

Presets:
${presets.map(({ name, description }) => `  ${name.padEnd(8)} ${description}`).join('\n')}

The folder of the results holds answers.jsonl, a line an answer, and summary.json. Ctrl-C, or a crash, loses nothing:
the same command with --resume goes on. A finished run that is repeated is moved to a folder earlier-1 in it.

Examples:
  foveate ablate
  foveate ablate --reducers none,fopru-rank,random --keep 0.5,0.25 --limit 40 --out quick
  foveate ablate --reducers none,fopru-row:keep=0.5+fopru-rank:keep=0.5 --limit 40 --out chain --format md
  foveate ablate --preset table3 --limit 40 --out table3
  foveate ablate --preset methods --limit 4 --out methods-quick
  foveate ablate --reducers none,fopru-rank --keep 0.25 --limit 40 --out js --backend js`,
    )
    .action(async (options: Partial<AblateOptions>) => {
      const { preset = null, limit = findPreset(preset)?.limit ?? DEFAULT_LIMIT } = options;
      const paths = { model: modelDirectory, data: questionsFile };
      await ablate({ ...paths, ...options, preset, limit } as AblateOptions);
    });
}

function askCommand(): Command {
  return new Command('ask')
    .summary('ask one question about images')
    .description('Answers one question about one or more images.')
    .argument('<images-and-question...>', 'image files, and last the question')
    .usage('[options] IMAGE... "QUESTION"')
    .option(
      '--model <model>',
      'folder in the layout of transformers.js, or owner/name of the hub (default: the embedded model)',
    )
    .addOption(dtypeOption())
    .addOption(revisionOption())
    .option('--local-only', 'use what the cache holds of a model of the hub, without the network', false)
    .option('--reduce <spec>', 'SPEC of what reduces the visual tokens of each image', 'none')
    .addOption(perOption())
    .addOption(deviceOption())
    .addOption(backendOption())
    .option('--raw', 'the question is the prompt word for word, <image> where each image belongs', false)
    .option('--max-new-tokens <n>', 'most tokens to answer with', parsePositive, 64)
    .option(
      '--show',
      'draw each image with its dropped patches dimmed, as NAME-kept.png in this folder',
      false,
    )
    .option('--json', 'print one JSON object: text, tokens, images, timings (ms), memory (bytes)', false)
    .addHelpText(
      'after',
      `${SPEC_HELP}
${BACKEND_HELP}

Examples:
  foveate ask ${EXAMPLE_IMAGE} "What is the cyan thing?"
  foveate ask ${EXAMPLE_IMAGE} "What is the cyan thing?" --reduce fopru-rank:keep=0.25 --show`,
    )
    .action(async (positionals: string[], options: Partial<AskOptions>, command: Command) => {
      const images = positionals.slice(0, -1);
      const question = positionals[positionals.length - 1];
      if (images.length === 0)
        command.error(`error: ask needs an image and a question; there is only ${JSON.stringify(question)}`);
      await ask(images, question, { model: modelDirectory, ...options } as AskOptions);
    });
}

function pullCommand(): Command {
  return new Command('pull')
    .summary('fetch a model of the hub')
    .description(
      'Fetches what is missing of a model of the hub, only the files that the dtype needs, and prints its folder.\n' +
        'A download that was stopped goes on where it was; every file is checked before it is used.',
    )
    .argument('<owner/name>', 'the model')
    .usage('[options] OWNER/NAME')
    .addOption(dtypeOption())
    .addOption(revisionOption())
    .addHelpText(
      'after',
      `
The cache is the one of the hub's own libraries: ~/.cache/huggingface/hub, unless HF_HOME or HF_HUB_CACHE say otherwise.
HF_TOKEN is for private and gated models; HF_ENDPOINT names another hub.

Example:
  foveate pull llava-hf/llava-interleave-qwen-0.5b-hf --dtype q4f16`,
    )
    .action(async (id: string, options: PullOptions) => {
      await pull(id, options);
    });
}

function dtypeOption(): Option {
  const meaning = `variant of the graphs: ${dtypes.join(', ')}; auto: what config.json names, else fp32; or graph=variant joined by commas, e.g. vision_encoder=q8,decoder_model_merged=q4`;
  return new Option('--dtype <dtype>', meaning).argParser(parseDtype).default('auto');
}

function revisionOption(): Option {
  return new Option('--revision <revision>', 'branch, tag or commit of a model of the hub (default: main)');
}

function perOption(): Option {
  return new Option('--per <unit>', 'what a budget is of, where the model cuts an image into crops')
    .choices(['crop', 'image'])
    .default('crop');
}

function deviceOption(): Option {
  return new Option('--device <name>', 'where onnxruntime runs the graphs').choices(devices).default('cpu');
}

function backendOption(): Option {
  return new Option('--backend <name>', 'where reducers before the language model compute')
    .choices(backendNames)
    .default('onnx');
}

function reportCommand(): Command {
  return new Command('report')
    .summary('write one HTML page of a finished run')
    .description(
      'Writes OUT/report.html: plots, for some questions what each method kept of the image, and tables that sort.\n' +
        'The page is one file that needs no network. The questions it shows are asked once more, which loads the model.',
    )
    .argument('<out>', 'folder of a finished run: the --out of "foveate ablate"')
    .usage('[options] OUT')
    .option('--questions <ids>', 'which to show, ids joined by commas (default: one of each kind)')
    .option('--no-questions', 'show none; needs neither the model nor the questions')
    .option('--model <dir>', 'where the bundle is now (default: where it was for the run)')
    .option('--data <file>', 'where the questions are now (default: where they were for the run)')
    .addHelpText(
      'after',
      `
Examples, of the run in the folder out:
  foveate report out
  foveate report out --questions 0152-3,0006-1
  foveate report out --no-questions`,
    )
    .action(async (out: string, options: ReportOptions) => {
      await report(out, options);
    });
}

function methodsCommand(): Command {
  return new Command('methods')
    .summary('list the methods with their options')
    .description(
      'Lists the methods by where they act, with what each needs and reads and its options: the default, the values, what it is.\n' +
        'With --for: which of them a model can run, and why not the others.',
    )
    .option('--for <model>', 'folder in the layout of transformers.js, or owner/name of the hub')
    .addOption(dtypeOption())
    .addOption(revisionOption())
    .option('--local-only', 'use what the cache holds of a model of the hub, without the network', false)
    .addHelpText(
      'after',
      `
Examples:
  foveate methods
  foveate methods --for node_modules/@foveate/tiny-llava/model`,
    )
    .action(async ({ for: model, ...options }: MethodsOptions) => {
      await print(await (model === undefined ? describeMethods() : describeMethodsOf({ model, ...options })));
    });
}

/** Options of `methods`. */
type MethodsOptions = Omit<ModelOptions, 'model'> & { readonly for?: string };

function parseCount(text: string): number {
  return parseInteger(text, 0, Number.MAX_SAFE_INTEGER);
}

function parsePositive(text: string): number {
  return parseInteger(text, 1, 2 ** 20);
}

function parseSeed(text: string): number {
  return parseInteger(text, 0, 2 ** 32 - 1);
}

function parseInteger(text: string, lowest: number, highest: number): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= lowest && value <= highest) return value;
  throw new InvalidArgumentError(`It must be an integer from ${lowest} to ${highest}.`);
}
