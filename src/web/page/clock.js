// The node's clock. This computer's may be a day off, or be set while the page is open: it is never asked.
//
//   an answer's date ──► where the node's clock stood ──► + what the browser's stopwatch has counted since = now

// Answers name whole seconds and take a moment: a clock that differs by less is the same one.
const TOLERANCE = 2;

let heard = null;

// The stopwatch of the page, which nobody sets: seconds.
const stopwatch = () => performance.now() / 1000;

export function learnTime(nodeSeconds) {
  if (!Number.isFinite(nodeSeconds)) return;
  if (heard && Math.abs(now() - nodeSeconds) <= TOLERANCE) return;
  heard = { node: nodeSeconds, at: stopwatch() };
}

// Seconds since 1970; 0 while the node has not been heard.
export const now = () => (heard ? heard.node + stopwatch() - heard.at : 0);
