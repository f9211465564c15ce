// Pictures from the server, of which only the one that is wanted last is fetched.

export class LatestPicture {
  #wanted = null;
  #shown = null;
  #isBusy = false;

  /**
   * @param onShown takes {bitmap, url} (null: none is wanted any more)
   * @param onError takes a text
   */
  constructor(onShown, onError) {
    this.onShown = onShown;
    this.onError = onError;
  }

  want(url) {
    this.#wanted = url;
    if (!this.#isBusy) this.#fetch();
  }

  /** What was shown is gone; the same is fetched again when it is wanted. */
  forget() {
    this.#shown = undefined;
  }

  async #fetch() {
    this.#isBusy = true;
    while (this.#shown !== this.#wanted) {
      const url = this.#wanted;
      try {
        const bitmap = url === null ? null : await load(url);
        this.onShown(bitmap && { bitmap, url });
      } catch (error) {
        this.onError(error.message);
      }
      this.#shown = url;
    }
    this.#isBusy = false;
  }
}

async function load(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error ?? "a slice can't be shown");
  return createImageBitmap(await response.blob());
}
