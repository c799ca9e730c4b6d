/**
 * From what is there after a crash to what must have been recorded before it. Each copy says something of the op that made
 * it and the op that removed it; each op something of all that its channel asked before and after (see timeline.ts). What
 * contradicts itself is a promise that was broken: something confirmed is lost, something settled is back, a transaction
 * is half done, or an op was forgotten although a later one of its channel was not.
 */
import type { Copy } from './copy.ts';
import type { Op } from './timeline.ts';

/** What was found of a copy. */
export interface Finding {
  readonly copy: Copy;
  readonly isThere: boolean;
}

/** Says what the findings come to, and answers every contradiction. */
export function deduce(findings: readonly Finding[]): string[] {
  const contradictions: string[] = [];
  const happened = (op: Op, because: string): boolean =>
    note(op.timeline.happened(op.index + 1, because), `${op} happened, because ${because}`);
  const ended = (op: Op, because: string): boolean =>
    note(op.timeline.ended(op.index, because), `${op} did not happen, because ${because}`);
  const note = (against: string | undefined, claim: string): boolean => {
    if (against !== undefined) contradictions.push(`${claim}; but ${against}`);
    return against === undefined;
  };

  for (const { copy, isThere } of findings) {
    if (!isThere) continue;
    if (copy.admission !== undefined) happened(copy.admission, `${copy} is there`);
    if (copy.removal !== undefined) ended(copy.removal, `${copy} is there`);
  }
  let open: Copy[] = [];
  for (const { copy, isThere } of findings) {
    if (isThere || copy.isDoubtful) continue;
    if (copy.removal !== undefined) open.push(copy);
    else if (copy.admission !== undefined) ended(copy.admission, `${copy} is missing`);
    else contradictions.push(`${copy} is lost`);
  }
  // Missing, and there was a removal: either both happened or neither, or only the first has not. Until nothing new comes.
  for (let before = -1; before !== open.length; ) {
    before = open.length;
    open = open.filter((copy) => {
      const { admission, removal } = copy;
      if (removal === undefined) return false;
      if (copy.isCertain) happened(removal, `${copy} is missing`);
      else if (removal.isVoid && admission !== undefined) ended(admission, `${copy} is missing`);
      else return true;
      return false;
    });
  }
  return contradictions;
}
