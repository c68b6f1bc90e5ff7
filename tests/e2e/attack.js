// Everything that a page can send without asking, and what it may then read. Each target is
// {url, body, kind}; the result names those that said anything.
async (targets) => {
  const read = [];
  const wait = (ms) => new Promise((done) => setTimeout(done, ms));
  const within = (promise) => Promise.race([promise, wait(5000).then(() => { throw new Error("late"); })]);
  const say = (how, target, text) => read.push(`${how} ${target.url}: ${String(text).slice(0, 200)}`);
  const tried = [];
  const attempt = (how, target, work) => tried.push(
    within(work()).then((text) => { if (text !== undefined) say(how, target, text); }, () => {}));

  for (const target of targets) {
    const { url, body, kind } = target;
    const type = kind || "text/plain";
    attempt("fetch", target, async () => (await fetch(url)).text());
    attempt("fetch with credentials", target, async () => (await fetch(url, { credentials: "include" })).text());
    attempt("post", target, async () =>
      (await fetch(url, { method: "POST", body, headers: { "Content-Type": type } })).text());
    attempt("json", target, async () =>
      (await fetch(url, { method: "POST", body, headers: { "Content-Type": "application/json", "X-Amz-Target": "AmazonSQS.ListQueues" } })).text());
    attempt("put", target, async () => (await fetch(url, { method: "PUT", body })).text());
    attempt("delete", target, async () => (await fetch(url, { method: "DELETE" })).text());
    attempt("no-cors get", target, async () => { await fetch(url, { mode: "no-cors", referrerPolicy: "no-referrer" }); });
    attempt("no-cors post", target, async () => {
      await fetch(url, { method: "POST", mode: "no-cors", body, headers: { "Content-Type": type } });
    });
    attempt("xhr", target, () => new Promise((done, failed) => {
      const asking = new XMLHttpRequest();
      asking.open("POST", url);
      asking.setRequestHeader("Content-Type", type);
      asking.onload = () => done(asking.responseText);
      asking.onerror = failed;
      asking.send(body);
    }));
    navigator.sendBeacon(url, new Blob([body], { type }));
    for (const [tag, place] of [["img", "src"], ["script", "src"], ["iframe", "src"], ["link", "href"], ["video", "src"], ["object", "data"]]) {
      const element = document.createElement(tag);
      if (tag === "link") element.rel = "stylesheet";
      attempt(tag, target, () => new Promise((done, failed) => {
        element.onload = () => (tag === "img" || tag === "script" ? done("loaded") : done(undefined));
        element.onerror = failed;
        element[place] = url;
        document.body.append(element);
      }));
    }
    for (const enctype of ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"]) {
      const frame = document.createElement("iframe");
      frame.name = `frame${Math.random()}`;
      const form = document.createElement("form");
      Object.assign(form, { action: url, method: "POST", target: frame.name, enctype });
      for (const [name, value] of new URLSearchParams(body)) {
        const input = document.createElement("input");
        Object.assign(input, { name, value, type: "hidden" });
        form.append(input);
      }
      document.body.append(frame, form);
      HTMLFormElement.prototype.submit.call(form);
    }
    attempt("websocket", target, () => new Promise((done, failed) => {
      const socket = new WebSocket(url.replace("http:", "ws:"));
      socket.onopen = () => done("open");
      socket.onmessage = (event) => done(event.data);
      socket.onerror = failed;
    }));
    attempt("events", target, () => new Promise((done, failed) => {
      const source = new EventSource(url);
      source.onopen = () => { source.close(); done("open"); };
      source.onmessage = (event) => done(event.data);
      source.onerror = () => { source.close(); failed(new Error("closed")); };
    }));
  }
  await Promise.all(tried);
  await wait(500);
  return read;
}
