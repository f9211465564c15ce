// Clicks and boxes by slice, in the pixels of the slice as it is shown; (row, column), the first pixel's centre is (0, 0).

export class Hints {
  #steps = [];

  get isEmpty() {
    return this.#steps.length === 0;
  }

  /** @param kind inside, outside or box; a slice has one box, the last. */
  add(slice, kind, place) {
    this.#steps.push({ slice, kind, place });
  }

  undo() {
    this.#steps.pop();
  }

  clear() {
    this.#steps = [];
  }

  /** As the server takes them. */
  content() {
    const slices = {};
    for (const { slice, kind, place } of this.#steps) {
      slices[slice] ??= { inside: [], outside: [] };
      if (kind === "box") slices[slice].box = place;
      else slices[slice][kind].push(place);
    }
    return slices;
  }

  on(slice) {
    return this.content()[slice] ?? { inside: [], outside: [] };
  }
}
