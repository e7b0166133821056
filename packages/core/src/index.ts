export type { AttentionMarginals, MarginalsOptions, TensorBackend } from './backend.js';
export { createBackendTokens } from './backend-tokens.js';
export type { AttentionTensor, BackendTokensInit, TensorSignal } from './backend-tokens.js';
export { checkBudget, resolveBudget, resolveScoreBudget } from './budget.js';
export type { Budget, CountBudget, MassBudget, RatioBudget, ResolvedBudget, ScoreBudget } from './budget.js';
export { carryTokens } from './tokens-behind-plan.js';
export {
  FoveateError,
  GridRequiredError,
  InvalidArgumentError,
  InvalidPlanError,
  InvalidSignalError,
  PlanCompositionError,
  SignalUnavailableError,
  UnknownReducerError,
  UnsupportedReducerError,
} from './errors.js';
export { mapGives, mapGivesExactly } from './map-signals.js';
export { nearestRowsWith } from './nearest-rows.js';
export type { RowProducts } from './nearest-rows.js';
export {
  BUDGET_GROUP,
  budgetOf,
  budgetOptions,
  choiceOption,
  defineOptions,
  integerOption,
  layerOption,
  listOption,
  numberOption,
  scoreBudgetOf,
  scoreBudgetOptions,
} from './options.js';
export type {
  BudgetOptions,
  CheckedOptions,
  IntegerRange,
  NumberRange,
  OptionDefinition,
  Options,
  OptionsOf,
  OptionsSchema,
  ScoreBudgetOptions,
} from './options.js';
export { planChain, requestInModel } from './plan-chain.js';
export type { TowerLayers } from './plan-chain.js';
export { applyPlan, composePlans } from './plan-algebra.js';
export {
  createPlan,
  identityPlan,
  isIdentity,
  isSelection,
  maxPlan,
  mergePlan,
  picksTokens,
  selectionPlan,
  withWarnings,
} from './plan.js';
export type { Grid, PlanNotes, PlanParts, ReductionPlan, WeightedSources } from './plan.js';
export { checkReducer, defineReducer, planTokens } from './reducer.js';
export type { Calibration, ReducerDefinition, TokenReducer } from './reducer.js';
export { plainProducts, similarityWith } from './row-similarity.js';
export type { ComparedRows, SimilarityMeasure } from './row-similarity.js';
export { referenceBackend } from './reference-backend.js';
export type { HostTensor } from './reference-backend.js';
export { checkMergeAmount, resolveMerging } from './merge-amount.js';
export type { MergeAmount, MergeSchedule, ResolvedMerging } from './merge-amount.js';
export { mergeBipartite, topK } from './rules.js';
export type { GraphRule, MergeBipartiteRule, TopKRule } from './rules.js';
export { seededNumbers } from './seeded-numbers.js';
export { attentionGiven } from './signals/attention-given.js';
export { attentionMap } from './signals/attention-map.js';
export { attentionReceived } from './signals/attention-received.js';
export { attentionShare } from './signals/attention-share.js';
export { classAttention } from './signals/class-attention.js';
export { clipImageEmbeddings, clipTextEmbeddings } from './signals/clip-embeddings.js';
export { checkSignal, defineSignal, requestAt, signalId } from './signals/define-signal.js';
export type {
  CarryRule,
  LanguageLayer,
  Signal,
  SignalAxis,
  SignalDeclaration,
  SignalDefinition,
  SignalOptions,
  SignalParameters,
  SignalRequest,
  SignalSource,
  VisionLayer,
} from './signals/define-signal.js';
export { features } from './signals/features.js';
export { hiddenChange } from './signals/hidden-change.js';
export { hiddenStates, questionStates } from './signals/hidden-states.js';
export { keyMagnitude, questionKeyMagnitude } from './signals/key-magnitude.js';
export { keys } from './signals/keys.js';
export { projectedFeatures } from './signals/projected-features.js';
export { promptAttention } from './signals/prompt-attention.js';
export { queries } from './signals/queries.js';
export { questionAttention } from './signals/question-attention.js';
export { questionRelevance } from './signals/question-relevance.js';
export { textEmbeddings } from './signals/text-embeddings.js';
export {
  atFeatures,
  beforeLanguageLayer,
  beforeVisionLayer,
  checkSite,
  insideVisionLayers,
  layerInTower,
  scaledLayer,
  siteId,
} from './sites.js';
export type { DeclaredSite, EveryLayerSite, LanguageSite, ScaledLayer, Site, VisionSite } from './sites.js';
export { createTokens, similarityBy, readTokens, requestsOf } from './token-source.js';
export type {
  EncoderPlace,
  GivenSignal,
  SimilarityRequest,
  Similarity,
  Requirements,
  SignalsOf,
  Span,
  TokenLayout,
  TokenSource,
  TokensInit,
  VisualTokens,
} from './token-source.js';
export { topIndices, topIndicesAscending } from './top-indices.js';
