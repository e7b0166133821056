import { checkBudget } from './budget.js';
import { InvalidArgumentError, InvalidPlanError } from './errors.js';
import { createPlan, type ReductionPlan } from './plan.js';
import { checkMergeAmount } from './merge-amount.js';
import type { GraphRule } from './rules.js';
import type { SignalRequest } from './signals/define-signal.js';
import { checkSite, siteId, siteMadeFor, type DeclaredSite, type Site } from './sites.js';
import {
  readTokens,
  requestsOf,
  type SimilarityRequest,
  type Requirements,
  type TokenSource,
  type VisualTokens,
} from './token-source.js';

/**
 * A method that reduces visual tokens. It never touches a model nor copies features: it looks at signals and
 * returns a plan.
 */
export interface TokenReducer<R extends Requirements = Requirements> {
  /** The version of this interface. */
  readonly specificationVersion: 2;
  /** Lower-case letters, digits and hyphens, e.g. `fopru-rank`. */
  readonly name: string;
  /**
   * Where it acts, in the order of the data; most methods at one site. Where layers that scale meet in a
   * shallow model, each site comes at least one layer behind the one before it.
   */
  readonly at: readonly DeclaredSite[];
  /** The signals that `plan` reads, at each of its sites. A runner provides exactly these. */
  readonly requires: R;
  /**
   * Decides what becomes of the tokens at one of its sites; the same tokens always give the same plan. Call
   * it through {@link planTokens}, which reads the signals and checks what comes back.
   * @param site with its layer counted from the start
   * @param stage index of the site in `at`
   * @throws FoveateError of the kind that fits, where the tokens are not what the method needs
   */
  plan(tokens: VisualTokens<R>, site: Site, stage: number): Promise<ReductionPlan>;
  /**
   * The same decision as a rule, for a runner that lowers it into its graph; it gives the same tokens. Absent
   * where no rule says it.
   */
  readonly rule?: GraphRule;
  /**
   * What positions the tokens have that its plans leave inside the language model. `'original'`, the default:
   * those of their anchors, where they also stand. `'renumbered'`: the outputs of an image stand in the
   * plan's order, and all tokens behind are counted anew from there.
   */
  readonly positions?: 'original' | 'renumbered';
  /** Of a method that acts on the features alone: how the language model attends to what it leaves. */
  readonly calibration?: Calibration;
}

/**
 * How the language model attends to tokens that stand for several (RESTORE, arXiv 2606.01711): every score for
 * a token gets the logarithm of its size, and each token has the position that its anchor had.
 */
export interface Calibration {
  /**
   * Whether, while the prompt is run, the score of a query for a key d positions before it gets log(2 - D(d))
   * too, D(d) being the mean over the rotary frequencies f of cos(d f): what the tokens that are missing between
   * them would have added.
   */
  readonly distances: boolean;
  /**
   * Sizes in layer 0: the tokens' `'own'`, or the same for all, `'uniform'`: those that were there by those that
   * are left (RESTORE's official code).
   */
  readonly firstLayer: 'uniform' | 'own';
}

/** What {@link defineReducer} defines. */
export type ReducerDefinition<R extends Requirements> = Omit<TokenReducer<R>, 'specificationVersion'>;

/**
 * Makes a reducer of a definition, checked now, so that a wrong one fails before any image is read.
 * @throws InvalidArgumentError where the definition breaks the interface
 * @example
 * const mine = defineReducer({
 *   name: 'mine',
 *   at: [atFeatures],
 *   requires: { received: attentionReceived() },
 *   plan: async ({ length, signals }) => selectionPlan(topIndicesAscending(signals.received, 8), length),
 * });
 */
export function defineReducer<const R extends Requirements>(
  definition: ReducerDefinition<R>,
): TokenReducer<R> {
  const { name, at, requires, rule } = definition;
  if (!/^[a-z][a-z0-9-]*$/.test(name)) {
    throw new InvalidArgumentError('name', name, 'lower-case letters, digits and hyphens');
  }
  checkSites('at', at);
  if (new Set(at.map(siteId)).size < at.length) throw new InvalidArgumentError('at', at, 'different sites');
  checkRequires('requires', requires);
  for (const site of at) requestsOf(requires, site); // throws where a signal cannot be read there
  if (rule) checkRule(rule, requires);
  return Object.freeze({ ...definition, specificationVersion: 2 });
}

function checkRule(rule: GraphRule, requires: Requirements): void {
  const required = (name: string): Requirements[string] | undefined =>
    Object.hasOwn(requires, name) ? requires[name] : undefined;
  switch (rule.rule) {
    case 'top-k': {
      checkBudget(rule.budget);
      const score = required(rule.score);
      if (score && 'signal' in score && score.signal.shape.join() === 'N') return;
      throw new InvalidArgumentError('rule.score', rule.score, 'the name of a signal [N] in requires');
    }
    case 'merge-bipartite': {
      checkMergeAmount(rule.amount);
      const metric = required(rule.metric);
      if (metric && 'similarityBy' in metric) return;
      throw new InvalidArgumentError('rule.metric', rule.metric, 'the name of a similarity in requires');
    }
  }
}

function checkRequires(argument: string, requires: Requirements): void {
  if (isRecord(requires) && Object.values(requires).every(isRequirement)) return;
  throw new InvalidArgumentError(
    argument,
    requires,
    'a record of signals by names of your own, e.g. { received: attentionReceived() }',
  );
}

/** A signal that was not called is a function, and has none. */
function isRequirement(value: unknown): boolean {
  const { signal, similarityBy = { signal } } = Object(value) as Partial<SignalRequest & SimilarityRequest>;
  return typeof similarityBy.signal === 'object';
}

function isRecord(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function checkSites(argument: string, sites: readonly DeclaredSite[]): void {
  const listed: readonly DeclaredSite[] = Array.isArray(sites) ? sites : [];
  if (listed.length === 0) throw new InvalidArgumentError(argument, sites, 'a list of at least one site');
  for (const [index, site] of listed.entries()) checkSite(`${argument}[${index}]`, site);
}

/**
 * Checks that a value is a reducer of this version of the interface, whoever made it.
 * @param argument its name in the error
 * @throws InvalidArgumentError, which says what to change in a reducer of an earlier version
 */
export function checkReducer(argument: string, value: unknown): asserts value is TokenReducer {
  const {
    specificationVersion,
    name = '',
    at,
    requires,
    plan,
    rule,
  } = Object(value) as Partial<TokenReducer>;
  if ((specificationVersion as number | undefined) === 1) {
    throw new InvalidArgumentError(
      argument,
      `a reducer of specificationVersion 1 (${name})`,
      'one of specificationVersion 2: name its sites in `at` in place of `stage` and `layer`, make `requires` a record of signals, read them from ' +
        '`tokens.signals`, and write `rule` in place of `topK`; defineReducer sets the version',
    );
  }
  const isReducer =
    specificationVersion === 2 && Array.isArray(at) && isRecord(requires) && typeof plan === 'function';
  if (!isReducer) {
    throw new InvalidArgumentError(
      argument,
      value,
      'a reducer of specificationVersion 2, as fopruRank() returns one',
    );
  }
  checkSites(`${argument}.at`, at);
  checkRequires(`${argument}.requires`, requires);
  if (rule) checkRule(rule, requires);
}

/**
 * Has a reducer plan for tokens: reads the signals that it asks for, and checks the plan that comes back. The
 * reducer may be anyone's, and its plan decides what is read from memory: this is the one place where plans
 * are checked.
 * @param site one of the reducer's, its layer counted from the start; one that scales is that of the model
 * which the method was made for. Default: its first
 * @param stage index of the site in the reducer's `at`. Default: the one that says the same, or else 0
 * @throws SignalUnavailableError, InvalidSignalError, InvalidArgumentError on tokens that do not fit;
 * InvalidPlanError where the reducer breaks the rules of a plan; what the reducer throws
 * @example
 * const values = Float32Array.of(0.1, 0.4, 0.3, 0.2);
 * const tokens = createTokens({ length: 4, signals: [{ ...promptAttention({ layer: 2 }), values }] });
 * const plan = await planTokens(fastv({ layer: 3, keepRatio: 0.5 }), tokens); // keeps tokens 1 and 2
 */
export async function planTokens(
  reducer: TokenReducer,
  source: TokenSource,
  site: DeclaredSite = reducer.at[0],
  stage: number = Math.max(
    0,
    reducer.at.findIndex((one) => siteId(one) === siteId(site)),
  ),
): Promise<ReductionPlan> {
  const there = siteMadeFor(site);
  const tokens = await readTokens(source, reducer.requires, there);
  const plan = createPlan(await reducer.plan(tokens, there, stage));
  if (plan.inputLength === source.length) return plan;
  throw new InvalidPlanError(
    `${reducer.name} made a plan for ${plan.inputLength} tokens; there are ${source.length}.`,
  );
}
