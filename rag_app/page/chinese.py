"""The interface in Chinese. A text that is missing here is shown in English; a test finds it."""

TABLE = {
    # Pages and sidebar
    "Ask": "提问",
    "Documents": "文档",
    "Connections": "连接",
    "Collection": "集合",
    "Candidates": "候选数",
    "Passages": "段落数",
    "Rerank": "重排",
    "Answers with and without reranking": "有无重排的答案",
    "One": "一个",
    "Side by side": "并排",
    "Blind": "盲投",
    "all": "全部",
    "Follow-ups": "追问",
    "New question": "新问题",
    "{n} chunks in {collection}": "{collection} 中有 {n} 个文本块",
    "Built-in models: English, on this machine, without a key. The chat model only quotes.": (
        "内置模型：英文，在本机运行，无需密钥。聊天模型只摘录原文。"
    ),
    "A question that builds on the one before is rewritten by the chat model so that it stands alone.": (
        "承接上文的追问由聊天模型改写成可以单独理解的问题。"
    ),
    "The built-in extractive model only quotes: it cannot rewrite a follow-up. Set RAG_CHAT_URL for one that can.": (
        "内置的摘录模型只会引用原文，不能改写追问。请用 RAG_CHAT_URL 设置一个可以改写的模型。"
    ),
    "Starting the models": "正在启动模型",
    # The question
    "Question": "问题",
    "Examples": "示例",
    "Ask something": "请输入问题",
    "Ask a follow-up, or something else": "追问，或换一个问题",
    "Earlier in this conversation": "本次对话的早前问题",
    "Show with its rankings": "连同排名一起显示",
    "The question is too long": "问题太长",
    "It has {n} characters, and at most {most} are asked.": "它有 {n} 个字符，最多可提问 {most} 个。",
    "Ask for one thing in a few sentences.": "请用几句话只问一件事。",
    # Stages
    "Stages": "阶段",
    "rewrite": "改写",
    "embed": "嵌入",
    "retrieve": "检索",
    "rerank": "重排",
    "answer": "回答",
    "answer without reranking": "未重排的回答",
    # Answers
    "Passage {n}: {title}": "段落 {n}：{title}",
    "page {page}": "第 {page} 页",
    "Open the document": "打开文档",
    "marked": "标记",
    "words that the answer shares with the passage": "答案与段落共有的词",
    ", only in this answer": "，仅此答案引用",
    "cited in this answer only": "仅此答案引用",
    "With reranking": "重排后",
    "Without reranking": "未重排",
    "with reranking": "重排后",
    "without reranking": "未重排",
    "no difference": "没有区别",
    "No difference": "没有区别",
    "Left": "左",
    "Right": "右",
    "Which answer is better? What reranking did is shown after.": "哪个答案更好？投票后再显示重排的作用。",
    "Show without voting": "不投票，直接显示",
    "Your vote: {vote}.": "您的选择：{vote}。",
    "Shown without a vote.": "未投票，直接显示。",
    "Typed: “{typed}”. The chat model rewrote it to stand alone.": "输入的是“{typed}”，聊天模型已将其改写为可单独理解的问题。",
    "Built-in extractive model: it quotes from the passages or declines, no language model.": (
        "内置摘录模型：只从段落中引用原文或拒绝回答，不是语言模型。"
    ),
    "Taken out of the answer: {markers}, which no passage has.": "已从答案中删去 {markers}：没有对应的段落。",
    "Thank you: stored.": "谢谢，已保存。",
    "What was good, or what was missing?": "哪里好，或缺少什么？",
    "With and without": "有无重排对比",
    "A second answer, from the passages before reranking, beside this one.": "在旁边再给出一个用重排前的段落写成的答案。",
    "Both would be answered from the same passages in the same order.": "两者会用同样顺序的同样段落作答。",
    "Export": "导出",
    "Everything, as JSON": "全部内容（JSON）",
    "To read, as Markdown": "便于阅读（Markdown）",
    "Ask again": "重新提问",
    "The settings have changed since this was asked.": "提问之后设置已更改。",
    "Cut anew at {n} passages; the answer above was written from {before}.": (
        "已按 {n} 个段落重新截取；上面的答案是用 {before} 个段落写的。"
    ),
    "Answer from these {n} passages": "用这 {n} 个段落回答",
    "Answer from these passages": "用这些段落回答",
    # What reranking did
    "Nothing was found: there was nothing to rerank.": "什么都没有找到，没有可重排的内容。",
    "Reranking failed: the passages are in retrieval order.": "重排失败：段落保持检索顺序。",
    "Reranking was skipped: the passages are in retrieval order.": "跳过了重排：段落保持检索顺序。",
    "Reranking found no candidate relevant enough.": "重排认为没有足够相关的候选。",
    "Reranking put {promoted} of the {n} passages into this answer.": (
        "这个答案的 {n} 个段落中有 {promoted} 个是因重排才入选的。"
    ),
    "Reranking kept {n} of {without} passages: the others are not relevant enough.": (
        "重排保留了 {without} 个段落中的 {n} 个：其余的不够相关。"
    ),
    "Reranking changed nothing: the same passages in the same order.": "重排没有改变什么：段落和顺序都相同。",
    "Reranking kept the same passages and changed their order.": "重排保留了同样的段落，只改变了顺序。",
    "applied": "已应用",
    "partial": "部分应用",
    "skipped": "已跳过",
    "failed, retrieval order used": "失败，使用检索顺序",
    "{scored} of {sent} scored": "{sent} 个中有 {scored} 个得分",
    "{n} requests": "{n} 次请求",
    "{n} documents sent cut": "{n} 个文档被截短发送",
    "{n} tokens": "{n} 个 token",
    "price {price}": "费用 {price}",
    "price not known for {missing}": "费用未知：{missing}",
    "{stages}: no tokens were reported": "{stages} 未报告 token 数",
    "Movement": "名次变化",
    "Lists": "列表",
    "Passages as sent": "送出的段落",
    "All candidates": "全部候选",
    "Details": "详情",
    "promoted into the answer": "升入答案",
    "kept": "保留",
    "lost its place": "失去位置",
    "not used": "未使用",
    "in the answer only because of reranking": "仅因重排才进入答案",
    "cited": "被引用",
    "passages end here": "段落截止线",
    "before": "重排前",
    "after": "重排后",
    "before reranking": "重排前",
    "after reranking": "重排后",
    "rank": "名次",
    "rank before": "重排前名次",
    "rank after": "重排后名次",
    "cosine": "余弦相似度",
    "rerank score": "重排得分",
    "text": "文本",
    "Each score has a scale of its own, from the lowest to the highest here; the two are not to be compared.": (
        "两种得分各有自己的刻度（从此处最低到最高），不可相互比较。"
    ),
    "The prompt as sent": "送出的提示词",
    "This passage is relevant": "这个段落是相关的",
    "Written to {file}: the labelled questions that reranking is measured by.": "写入 {file}：用来衡量重排效果的标注问题。",
    "stage": "阶段",
    "model or place": "模型或位置",
    "time": "时间",
    "tokens in": "输入 token",
    "First words after {time}.": "{time} 后出现首批文字。",
    # States
    "Broken off": "已中断",
    "This question was left before it was answered.": "这个问题在得到回答之前被离开了。",
    "Ask it again.": "请重新提问。",
    "The answer was left before it was whole.": "答案在完成之前被离开了。",
    "Ask for it again.": "请重新获取答案。",
    "Nothing found": "没有找到",
    "There is nothing to read in {names}.": "{names} 中没有可读的内容。",
    "Take out the filter.": "请去掉筛选条件。",
    "Nothing relevant enough": "没有足够相关的内容",
    "Every candidate scored below the threshold, so no chat model was asked.": (
        "所有候选的得分都低于阈值，因此没有询问聊天模型。"
    ),
    "Ask in other words, raise the candidates, or lower RAG_RERANK_MIN_SCORE; the scores are below.": (
        "请换一种问法、增加候选数，或调低 RAG_RERANK_MIN_SCORE；得分见下方。"
    ),
    "The answer stops in the middle": "答案中途停止",
    "The chat model reached its limit of tokens.": "聊天模型达到了 token 上限。",
    "Ask for less at once, or raise the limit at the endpoint.": "请缩小问题范围，或在端点调高上限。",
    "The answer may be cut short": "答案可能不完整",
    "Its stream broke off without saying why.": "数据流无故中断。",
    "Ask again; if it stays, look at the endpoint.": "请重新提问；若仍如此，请检查端点。",
    "The endpoint cannot be reached": "无法连接端点",
    "The endpoint takes too long": "端点响应过慢",
    "The endpoint refuses the key": "端点拒绝了密钥",
    "The endpoint does not have this model": "端点没有这个模型",
    "This address is not the right one": "地址不正确",
    "Too many requests at this moment": "目前请求过多",
    "The account at the endpoint is used up": "端点账户额度已用完",
    "The request is too large for the endpoint": "请求对端点来说过大",
    "The endpoint does not take this request": "端点不接受这个请求",
    "The endpoint answered something else than expected": "端点的回复不符合预期",
    "The endpoint has a problem of its own": "端点自身出现问题",
    "Nothing is stored here yet": "这里还没有内容",
    "Upload documents on the page Documents, or run rag-app ingest PATH.": "请在“文档”页上传，或运行 rag-app ingest PATH。",
    "Look at the connections": "查看连接",
    "Add documents": "添加文档",
    "A setting cannot work": "有一项设置无效",
    "Mend it in .env, then reload this page.": "请在 .env 中改正，然后重新加载本页。",
    "That did not work": "没有成功",
    "Try again.": "请再试一次。",
    # Documents
    "This name cannot be used": "不能使用这个名称",
    "Take another name for the collection.": "请为集合换一个名称。",
    "Upload": "上传",
    "A folder of the server": "服务器上的文件夹",
    "Files, or zips of them": "文件，或它们的 zip 压缩包",
    "Add to {collection}": "加入 {collection}",
    "{n} files uploaded": "上传了 {n} 个文件",
    "Folder below {path}": "{path} 下的文件夹",
    "Ingest it into {collection}": "导入到 {collection}",
    "Type another name to begin a new collection.": "输入另一个名称即可新建集合。",
    "{n} of {of} files done": "{of} 个文件已完成 {n} 个",
    "{n} of {of} files · {chunks} chunks stored": "{of} 个文件中的 {n} 个 · 已存储 {chunks} 个文本块",
    "looking through the files": "正在查看文件",
    "broken off": "已中断",
    "done in {seconds:.1f} s": "用时 {seconds:.1f} 秒",
    "It goes on if you close this page.": "关闭本页后仍会继续。",
    "{n} unchanged": "{n} 个未变",
    "Nothing was to be done.": "无需处理。",
    "What came of each file": "每个文件的结果",
    "file": "文件",
    "state": "状态",
    "progress": "进度",
    "reason": "原因",
    "waiting": "等待",
    "embedding": "嵌入中",
    "added": "新增",
    "changed": "更改",
    "moved": "移动",
    "removed": "移除",
    "empty": "空文件",
    "failed": "失败",
    "refused": "拒收",
    "{n} documents are in {language}, and the built-in models are English: set RAG_BASE_URL.": (
        "{n} 个文档是{language}，而内置模型只懂英文：请设置 RAG_BASE_URL。"
    ),
    "{n} documents, {chunks} chunks": "{n} 个文档，{chunks} 个文本块",
    "Search": "搜索",
    "path, title, type, language": "路径、标题、类型、语言",
    "document": "文档",
    "title": "标题",
    "type": "类型",
    "chunks": "文本块",
    "language": "语言",
    "indexed": "索引时间",
    "incomplete: add it again": "不完整：请重新加入",
    "The documents that are stored": "已存储的文档",
    "Chosen": "已选",
    "Pick rows above, or type here: one is shown chunk by chunk": "在上方选行，或在此输入：选一个即逐块显示",
    "The collection {collection} has no documents.": "集合 {collection} 中没有文档。",
    "Upload some above, or run rag-app ingest PATH.": "请在上方上传，或运行 rag-app ingest PATH。",
    "Delete": "删除",
    "Delete?": "删除？",
    "Delete {n} documents": "删除 {n} 个文档",
    "and {n} more": "以及另外 {n} 个",
    "Uploaded files are deleted with their documents. Others stay where they are: the next ingest brings them back.": (
        "上传的文件会随文档一起删除。其他文件保留原处：下次导入时会重新加入。"
    ),
    "Embed again": "重新嵌入",
    "{n} documents embedded again": "重新嵌入 {n} 个文档",
    "Embed all again": "全部重新嵌入",
    "All embedded again": "全部重新嵌入",
    "For another embedding model or chunk size. The old collection answers until the new one is whole.": (
        "用于更换嵌入模型或块大小。新集合完成之前，由旧集合回答。"
    ),
    "{n} chunks": "{n} 个文本块",
    "characters {start} to {end}": "第 {start} 至 {end} 个字符",
    # Connections
    "Each endpoint is asked something whose answer is known.": "向每个端点提出一个已知答案的问题。",
    "Try again": "再试一次",
    "Read .env again": "重新读取 .env",
    "After a change of .env: for everyone who uses this page.": "更改 .env 之后使用：对本页所有使用者生效。",
    "Looked at {when}.": "检查时间：{when}。",
    "Embeddings": "嵌入",
    "Chat": "聊天",
    "Chroma": "Chroma",
    "works": "正常",
    "works, but": "可用，但有问题",
    "does not work": "不可用",
    "being asked": "正在询问",
    "answers": "回复",
    "order": "次序",
    "limits": "上限",
    "shape": "格式",
    "address": "地址",
    "key": "密钥",
    "model": "模型",
    "reachable": "可达性",
    "settings": "设置",
    "citations": "引用",
    "collection": "集合",
    "dimension": "维度",
    "{model}, built in, no key needed": "{model}，内置，无需密钥",
    "{model} at {address}, {key}": "{model}，{address}，{key}",
    "a key is set": "已设置密钥",
    "no key is set": "未设置密钥",
    # Evaluate: the verdict
    "Cannot tell whether reranking helps: {failed} of {questions} questions failed.": (
        "无法判断重排是否有帮助：{questions} 个问题中有 {failed} 个失败。"
    ),
    "Cannot tell whether reranking helps: no question has a judgement that is found in this collection.": (
        "无法判断重排是否有帮助：没有一个问题的标注能在此集合中找到。"
    ),
    "Cannot tell whether reranking helps: it was not asked for {skipped} of {n} questions.": (
        "无法判断重排是否有帮助：{n} 个问题中有 {skipped} 个没有重排。"
    ),
    "Cannot tell whether reranking helps: {n} measured questions are too few, {fewest} are the least.": (
        "无法判断重排是否有帮助：只测量了 {n} 个问题，至少需要 {fewest} 个。"
    ),
    "Reranking helps: {measure} {before} → {after}, {change} (95% interval {low} to {high}, p {p}, {n} questions).": (
        "重排有帮助：{measure} {before} → {after}，{change}（95% 区间 {low} 至 {high}，p {p}，{n} 个问题）。"
    ),
    "Reranking hurts: {measure} {before} → {after}, {change} (95% interval {low} to {high}, p {p}, {n} questions).": (
        "重排有害：{measure} {before} → {after}，{change}（95% 区间 {low} 至 {high}，p {p}，{n} 个问题）。"
    ),
    "No difference seen at this size: {measure} {before} → {after}, {change} (95% interval {low} to {high}, p {p}, {n} "
    "questions).": (
        "在此规模下看不出差别：{measure} {before} → {after}，{change}（95% 区间 {low} 至 {high}，p {p}，{n} 个问题）。"
    ),
    "No difference seen at this size: {measure} {before} → {after}, {change} (95% interval {low} to {high}, p {p}, {n} "
    "questions); so many would show one of {detectable}.": (
        "在此规模下看不出差别：{measure} {before} → {after}，{change}（95% 区间 {low} 至 {high}，p {p}，{n} 个问题）；"
        "这么多问题能看出 {detectable} 的差别。"
    ),
    "Mend this and run it again, what was measured is kept: {reason}": "请先排除此问题再运行一次，已测量的都会保留：{reason}",
    "Judge candidates on the page (Evaluate, Label), or ingest the documents that the judgements are of.": (
        "请在页面上（评估、标注）标注候选，或导入标注所属的文档。"
    ),
    "Take a reranker that fits these documents (RAG_RERANK_MODEL): {reason}.": (
        "请换用适合这些文档的重排模型（RAG_RERANK_MODEL）：{reason}。"
    ),
    "Label at least {more} more questions: on the page, or from drafts of `rag-app questions`.": (
        "请至少再标注 {more} 个问题：在页面上，或用 `rag-app questions` 起草。"
    ),
    "Ask without it (--no-rerank; the switch on the page), or try another RAG_RERANK_MODEL.": (
        "请不用重排（--no-rerank，或页面上的开关），或换一个 RAG_RERANK_MODEL。"
    ),
    "Retrieval misses {missed} of the relevant chunks at {candidates} candidates: raise RAG_N_CANDIDATES, or change chunks "
    "or the embedding model, before the reranker.": (
        "检索 {candidates} 个候选时漏掉了 {missed} 的相关文本块：请先提高 RAG_N_CANDIDATES，或改变切分或嵌入模型，"
        "再考虑重排模型。"
    ),
    "The two orders score the same: the cheaper way is without reranking.": "两种顺序得分相同：不重排更省。",
    "Label about {more} more questions to find a difference of this size; till then without is cheaper.": (
        "要看出这么大的差别，还需标注约 {more} 个问题；此前不重排更省。"
    ),
    "A difference of this size is at the edge of what these questions show: label some more.": (
        "这么大的差别刚好处于这些问题能显示的边缘：请再标注一些。"
    ),
    "The best order of the same candidates has {ceiling}: another RAG_RERANK_MODEL has room (`rag-app compare` measures it).": (
        "同样的候选最佳排序可达 {ceiling}：换一个 RAG_RERANK_MODEL 还有余地（用 `rag-app compare` 测量）。"
    ),
    "Keep it: the best order of the same candidates is hardly better. `rag-app sweep` finds the cheapest setting.": (
        "请保留：同样的候选最佳排序也好不了多少。`rag-app sweep` 可找出最省的设置。"
    ),
    # Evaluate: measuring
    "Evaluate": "评估",
    "What to do": "要做什么",
    "Measure": "测量",
    "Label": "标注",
    "Drafts": "草稿",
    "Questions": "问题集",
    "Sample": "抽样",
    "all questions": "全部问题",
    "Answers too": "也测答案",
    "Asks the chat model twice for each question.": "每个问题会询问聊天模型两次。",
    "Ask anew": "重新询问",
    "Else what was asked before costs no call.": "否则问过的不再调用。",
    "A run that is left goes on from where it was when you press it again: what was asked is kept.": (
        "中途离开的测量，再按一次会接着进行：问过的都会保留。"
    ),
    "Reading the questions": "正在读取问题",
    "Embedding the corpus": "正在嵌入语料",
    "Asking": "正在询问",
    "Answering, with and without reranking": "正在回答，有重排和无重排",
    "Counting": "正在统计",
    "{what}: {done} of {of}, about {left} left": "{what}：{of} 中的 {done}，约剩 {left}",
    ", {failed} failed": "，{failed} 个失败",
    "{n} calls in {seconds:.0f} s; the rest was remembered.": "{seconds:.0f} 秒内调用 {n} 次；其余取自记忆。",
    "Nothing was measured yet": "尚未测量",
    "A run asks every labelled question, and says whether reranking helps on these documents.": (
        "一次测量会询问每个已标注的问题，并说明重排对这些文档是否有帮助。"
    ),
    "Press Measure, or run rag-app eval.": "请按“测量”，或运行 rag-app eval。",
    "Run": "测量记录",
    # Evaluate: the report
    "{set}, collection {collection}, {candidates} candidates: {n} questions, {measured} measured, {unanswerable} unanswerable, "
    "{unjudged} without a judgement that is found here, {failed} failed.": (
        "{set}，集合 {collection}，{candidates} 个候选：共 {n} 个问题，测量 {measured} 个，无答案 {unanswerable} 个，"
        "此处找不到标注 {unjudged} 个，失败 {failed} 个。"
    ),
    "A sample of {n} questions.": "抽样 {n} 个问题。",
    "Failed, left out: {n} questions: {reason}": "失败并除外：{n} 个问题：{reason}",
    "Failed, left out: {n} answers: {reason}": "失败并除外：{n} 个答案：{reason}",
    "Not reranked, retrieval order counts: {n} questions: {reason}": "未重排，按检索顺序计：{n} 个问题：{reason}",
    "{n} judgements stand in no chunk.": "{n} 条标注不在任何文本块中。",
    "{n} questions: {reason}": "{n} 个问题：{reason}",
    "{n} records of the corpus are not stored: they are empty, or were refused.": (
        "语料中有 {n} 条记录未存储：它们是空的，或被拒绝。"
    ),
    "Too few questions to tell which settings are as good as the best.": "问题太少，无法判断哪些设置与最佳一样好。",
    "Question by question": "逐个问题",
    "{wins} better, {ties} the same, {losses} worse. Click a bar to see its rankings.": (
        "{wins} 个变好，{ties} 个不变，{losses} 个变差。点击柱形可看其排名。"
    ),
    "The difference of each question, sorted": "每个问题的差别，已排序",
    "Gained most": "提升最多",
    "Lost most": "下降最多",
    "none": "无",
    "Any question": "任一问题",
    "Show its rankings": "显示其排名",
    "No relevant chunk is among the candidates.": "候选中没有相关的文本块。",
    "not judged": "未标注",
    "grade {n}": "等级 {n}",
    "Before, after, and the ceiling": "重排前、重排后与上限",
    "The tick is the best order of the same candidates: what is beyond it only retrieval can bring.": (
        "竖线是同样候选的最佳排序：超出它的只能靠检索。"
    ),
    "change": "变化",
    "95% interval": "95% 区间",
    "questions to find it": "看出它所需的问题数",
    "ceiling": "上限",
    "question": "问题",
    "difference in": "差别：",
    "candidates": "候选数",
    "passages": "段落数",
    "not reranked": "未重排",
    "How many candidates and passages": "多少候选、多少段落",
    "Cheapest within the noise of the best: **{setting}** ({quality}, {cost} {unit} a question).": (
        "与最佳无显著差别中最省的：**{setting}**（{quality}，每个问题 {cost} {unit}）。"
    ),
    "Best: {setting} ({quality}, {cost} {unit} a question).": "最佳：{setting}（{quality}，每个问题 {cost} {unit}）。",
    "{candidates} candidates reranked, {passages} passages": "重排 {candidates} 个候选，{passages} 个段落",
    "no reranking, {passages} passages": "不重排，{passages} 个段落",
    "Recall of the passages, by candidates and passages": "段落的召回率，按候选数与段落数",
    "Recall of the passages; ≈ is within the noise of the best, ★ the cheapest of those. Costs are estimated.": (
        "段落的召回率；≈ 表示与最佳无显著差别，★ 是其中最省的。费用为估计值。"
    ),
    "Time and cost": "时间与费用",
    "tokens": "词元",
    "As first measured.": "首次测得。",
    "{gain} {measure} for 100 ms of reranking.": "每 100 毫秒重排带来 {gain} {measure}。",
    "{gain} {measure} for 1 {currency} a question; reranking costs {cost} {currency} for 1,000 questions.": (
        "每个问题 1 {currency} 带来 {gain} {measure}；1,000 个问题的重排费用为 {cost} {currency}。"
    ),
    "Questions that nothing answers": "没有答案的问题",
    "By the {score}, an answerable question is above an unanswerable one {auc} of the time. At {threshold}, {kept} of {n} "
    "answerable questions are kept and {refused} of {n_other} others turned away.": (
        "按{score}，有答案的问题有 {auc} 的机会高于没有答案的。取 {threshold} 时，{n} 个有答案的保留 {kept}，"
        "{n_other} 个没有答案的拒绝 {refused}。"
    ),
    "cosine of the first candidate": "首个候选的余弦",
    "highest rerank score": "最高重排分数",
    "Answers": "答案",
    "An answer takes {p50} (p50), {p95} (p95).": "一个答案用时 {p50}（p50），{p95}（p95）。",
    "expected": "预期",
    "no answer": "无答案",
    "exact match": "完全匹配",
    "token F1": "词元 F1",
    "answered (answerable)": "已回答（有答案）",
    "declined (unanswerable)": "已拒答（无答案）",
    "citation precision": "引用精确率",
    "citation recall": "引用召回率",
    "right by the judge": "评判为正确",
    "The judge {model} agrees with the labels on {share} of {n} answers (kappa {kappa}).": (
        "评判模型 {model} 与标注在 {n} 个答案中有 {share} 一致（kappa {kappa}）。"
    ),
    "The collection {collection} of this run is not there any more.": "这次测量的集合 {collection} 已不存在。",
    "Report (HTML)": "报告（HTML）",
    "Report (JSON)": "报告（JSON）",
    "Runs over time": "历次测量",
    "when": "时间",
    "measured": "测量数",
    "embedding model": "嵌入模型",
    "rerank model": "重排模型",
    # Evaluate: labels and drafts
    "{judged} of {n} questions have a judgement, {nothing} are marked as having no answer. Kept in {file}.": (
        "{n} 个问题中有 {judged} 个已标注，{nothing} 个标为无答案。保存在 {file}。"
    ),
    "Choose a question, or type a new one": "选择一个问题，或输入新问题",
    "Those without a judgement come first.": "尚无标注的排在前面。",
    "Nothing was found.": "没有找到。",
    "{done} of {n} candidates judged": "{n} 个候选中已标注 {done} 个",
    "All of these candidates are judged.": "这些候选都已标注。",
    "candidate {n} of {of}": "第 {n} 个候选，共 {of} 个",
    "Relevant": "相关",
    "Partly": "部分相关",
    "Not": "不相关",
    "Take back": "撤回",
    "Before": "上一个",
    "Next": "下一个",
    "The first {n} before and after reranking, in an order that does not tell where they stood. What is not judged counts as "
    "not relevant.": "取重排前后的前 {n} 个，次序不透露其名次。未标注的按不相关计。",
    "No drafts are waiting": "没有待处理的草稿",
    "The chat model can draft questions from documents; none counts before you accept it.": (
        "聊天模型可以根据文档起草问题；接受之前都不计入。"
    ),
    "Run rag-app questions DOCS, with documents as rag-app documents lists them.": (
        "请运行 rag-app questions DOCS，文档名如 rag-app documents 所列。"
    ),
    "{n} drafts are waiting. None counts before you accept it.": "{n} 份草稿待处理。接受之前都不计入。",
    "Answer": "答案",
    "Accept": "接受",
    "Drop": "丢弃",
    # Languages of documents
    "Arabic": "阿拉伯文",
    "Chinese": "中文",
    "Dutch": "荷兰文",
    "English": "英文",
    "French": "法文",
    "German": "德文",
    "Italian": "意大利文",
    "Japanese": "日文",
    "Korean": "韩文",
    "Polish": "波兰文",
    "Portuguese": "葡萄牙文",
    "Russian": "俄文",
    "Spanish": "西班牙文",
}
