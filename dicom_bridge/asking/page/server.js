// What the page asks the server. Every failure is an Error whose text is fit to be shown.

async function asked(url, options = {}) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("rcmed ask does not answer; is it still running?");
  }
  if (response.ok) return response;
  throw new Error(await lineOf(response));
}

async function lineOf(response) {
  try {
    return (await response.json()).error;
  } catch {
    return `a fault of the server (${response.status}); its terminal says more`;
  }
}

function posted(content, signal) {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(content), signal };
}

export async function readModel() {
  return (await asked("/api/model")).json();
}

export async function readUpload(id) {
  return (await asked(`/api/uploads/${encodeURIComponent(id)}`)).json();
}

export async function forget(id) {
  await asked(`/api/uploads/${id}`, { method: "DELETE" });
}

/** Send files of [{name, file}]; says the bytes that are sent and all, and resolves to the upload's id. */
export async function send(dropped, onSent, signal) {
  const { id, most_bytes: most, most_files: mostFiles } = await (await asked("/api/uploads", posted({}, signal))).json();
  const all = dropped.reduce((sum, each) => sum + each.file.size, 0);
  // Said before anything is sent: who is refused in the midst of a file hears of a broken connection only.
  if (all > most) throw new Error(`at most ${Math.floor(most / 2 ** 20)} MB are taken at once, these are ${Math.ceil(all / 2 ** 20)}`);
  if (dropped.length > mostFiles) throw new Error(`at most ${mostFiles} files are taken at once, these are ${dropped.length}`);
  const waiting = [...dropped];
  let done = 0;
  try {
    const one = async () => {
      for (let next = waiting.shift(); next; next = waiting.shift()) {
        let sent = 0;
        await put(id, next, (bytes) => { done += bytes - sent; sent = bytes; onSent(done, all); }, signal);
      }
    };
    await Promise.all([one(), one(), one()]);
  } catch (error) {
    waiting.length = 0;
    forget(id).catch(() => {});
    throw error;
  }
  return id;
}

// By XMLHttpRequest, which says how much of a body is sent; fetch does not.
function put(id, { name, file }, onSent, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    const path = name.split("/").map(encodeURIComponent).join("/");
    request.open("PUT", `/api/uploads/${id}/files/${path}`);
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => onSent(Math.min(event.loaded, file.size)));
    request.addEventListener("load", () => {
      if (request.status < 300) return resolve(onSent(file.size));
      return reject(new Error(request.response?.error ?? `${name}: was not taken (${request.status})`));
    });
    request.addEventListener("error", () => reject(new Error(`${name}: could not be read or sent`)));
    request.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
    request.addEventListener("loadend", () => signal.removeEventListener("abort", abort));
    signal.addEventListener("abort", abort);
    if (signal.aborted) return abort() ?? reject(new DOMException("cancelled", "AbortError"));
    return request.send(file);
  });
}

export async function read(id, modality, signal) {
  return (await asked(`/api/uploads/${id}/read`, posted({ modality: modality || null }, signal))).json();
}

/** One image of an upload. */
export class AskedImage {
  constructor(upload, number, content) {
    this.address = `/api/uploads/${upload}/images/${number}`;
    this.content = content;
  }

  async names() {
    return (await asked(`${this.address}/names`)).json();
  }

  sliceUrl(plane, index, window) {
    const query = window ? `?centre=${window[0]}&width=${window[1]}` : "";
    return `${this.address}/slices/${plane.axis}/${index}.png${query}`;
  }

  overlayUrl(plane, index, answer, findings) {
    const shown = findings.map((number) => `&finding=${number}`).join("");
    return `${this.address}/overlays/${plane.axis}/${index}.png?answer=${answer}${shown}`;
  }

  archiveUrl(answer) {
    return `${this.address}/answer.zip?answer=${answer}`;
  }

  maskUrl(answer, finding) {
    return `${this.address}/masks/${finding}?answer=${answer}`;
  }

  /** Ask; says the share of the slices that is done, and resolves to the answer. */
  async find(words, hints, onShare, signal) {
    const response = await asked(`${this.address}/find`, posted({ words, hints }, signal));
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ;) {
      const { value, done } = await reader.read();
      const lines = (rest + (value ?? "")).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const told = JSON.parse(line);
        if (told.error) throw new Error(told.error);
        if (told.answer) return told.answer;
        onShare(told.progress);
      }
      if (done) throw new Error("the asking ended without an answer; the terminal of rcmed ask says more");
    }
  }
}
