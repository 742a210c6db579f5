"""Questions about pictures: what is asked, how pictures are fitted, how an answer is made."""
