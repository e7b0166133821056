/**
 * Adds up vitest's JSON reports. A file that failed before its first test counts as one failed test.
 *
 * @param {{ testResults: { status: string, assertionResults: { status: string }[] }[] }[]} reports
 * @returns {{ passed: number, failed: number, skipped: number }}
 */
export function countTests(reports) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const { status, assertionResults } of reports.flatMap((report) => report.testResults)) {
    for (const test of assertionResults) {
      if (test.status === 'passed' || test.status === 'failed') counts[test.status] += 1;
      else counts.skipped += 1;
    }
    if (status === 'failed' && !assertionResults.some((test) => test.status === 'failed')) counts.failed += 1;
  }
  return counts;
}
