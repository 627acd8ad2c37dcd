// QR codes through the camera: read by the browser where it can, else by this page; where there is no camera there is no button.

import { fill, h } from "./dom.js";

// Between two looks.
const PAUSE = 150;
// What is looked at: finer pictures take longer and show no more.
const WIDTH = 800;

// Reads what a video shows: `look()` promises a text or null, `end()` ends it.
function reader(video) {
  if ("BarcodeDetector" in window) {
    const detector = new BarcodeDetector({ formats: ["qr_code"] });
    return { look: async () => (await detector.detect(video).catch(() => []))[0]?.rawValue || null, end: () => {} };
  }
  const worker = new Worker("/qr-worker.js", { type: "module" });
  const canvas = document.createElement("canvas");
  const look = () => {
    const share = Math.min(1, WIDTH / video.videoWidth);
    [canvas.width, canvas.height] = [Math.round(video.videoWidth * share), Math.round(video.videoHeight * share)];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(video, 0, 0, canvas.width, canvas.height);
    return new Promise((done) => {
      worker.onmessage = ({ data }) => done(data);
      worker.onerror = () => done(null);
      worker.postMessage(context.getImageData(0, 0, canvas.width, canvas.height));
    });
  };
  return { look, end: () => worker.terminate() };
}

// A button; `found(text)` is told of the first code that is seen. Null where the browser lets no page use a camera.
export function scanner(page, found) {
  if (!navigator.mediaDevices?.getUserMedia) return null;
  const place = h("div", null);
  const button = h("button", { type: "button", onclick: () => (stop ? stop() : open()) }, "Scan with the camera");
  let stop = null;
  async function open() {
    button.disabled = true;
    let camera;
    try {
      camera = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1280 } } });
    } catch (error) {
      const why = error.name === "NotFoundError" ? "This device has no camera." : "The camera cannot be used. The browser asks once whether this page may; its settings can change that.";
      return fill(place, h("p.problem", { role: "alert" }, why));
    } finally {
      button.disabled = false;
    }
    if (page.signal.aborted) return camera.getTracks().forEach((track) => track.stop());
    const video = h("video", { muted: true, playsinline: true, "aria-label": "What the camera sees" });
    video.srcObject = camera;
    fill(place, video);
    button.textContent = "Stop the camera";
    const eye = reader(video);
    const own = () => {
      camera.getTracks().forEach((track) => track.stop());
      eye.end();
      fill(place);
      button.textContent = "Scan with the camera";
      stop = null;
    };
    stop = own;
    page.signal.addEventListener("abort", () => stop === own && own());
    await video.play().catch(() => {});
    while (stop === own) {
      const text = video.videoWidth ? await eye.look() : null;
      if (stop !== own) return;
      if (text) {
        own();
        return found(text);
      }
      await new Promise((done) => setTimeout(done, PAUSE));
    }
  }
  return h("div.field", null, button, place);
}
